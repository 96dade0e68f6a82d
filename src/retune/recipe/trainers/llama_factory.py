"""Names of LLaMA-Factory's files, by its arguments of 2023 to 2026."""

from __future__ import annotations

from retune.recipe.old_values import OldName, loss_on, only, only_off
from retune.recipe.trainers.sources import named_sources
from retune.recipe.trainers.tables import Table, passed, refused, renamed
from retune.recipe.trainers.values import (
    adapter_folder,
    attention,
    bits,
    listed,
    method_kind,
    modules,
    plain_base,
    template,
    turns_of_stage,
    twice_the_rank,
    validation_part,
    when_on,
)

_ROWS_WHOLE = "a longer row is left out and listed, never cut"
_NOT_OFFERED = "it would change the training and is not offered; remove the key"
_OPTIMIZER = "this optimizer is not offered; see training.optimizer"
_STAGE = (
    "sft and pt are what training does; for dpo write dpo: {pairs: FILE}, for rewards grpo: {}, "
    "both after supervised fine-tuning, see docs/aligning.md"
)
_DPO = "write it into dpo: {pairs: FILE, beta: ..., loss: ...}, see docs/aligning.md"
_NO_TOKENS = (
    "no tokens are added to a model: save it with them and rows of its embedding for them first, "
    "then name them in method.trainable_tokens"
)

LLAMA_FACTORY: Table = {
    **renamed(
        {
            "model_revision": "model.revision",
            "double_quantization": "quantization.double",
            "early_stopping_steps": "training.early_stopping.patience",
            "default_system": "prompt.system",
            "neft_alpha": "training.neftune_alpha",
            "max_new_tokens": "scoring.max_new_tokens",
        }
    ),
    "finetuning_type": OldName("method.kind", convert=method_kind, implies=plain_base),
    "lora_rank": OldName("method.r", implies=twice_the_rank),
    "lora_target": OldName("method.target_modules", convert=modules),
    "additional_target": OldName("method.modules_to_save", convert=listed),
    "pissa_init": OldName("method.init", convert=when_on("pissa")),
    "adapter_name_or_path": OldName("training.start_from", convert=adapter_folder),
    "quantization_bit": OldName("quantization.kind", convert=bits, null="none"),
    "quantization_type": OldName(
        None, convert=only("nf4", instead="nf4 is the only 4-bit type, see quantization.kind")
    ),
    "quantization_method": OldName(
        None, convert=only("bnb", "bitsandbytes", instead="see quantization.kind")
    ),
    "flash_attn": OldName("model.attention", convert=attention),
    "dataset": OldName("data.train", convert=named_sources),
    "template": OldName("prompt.template", convert=template),
    "cutoff_len": OldName("prompt.max_length", _ROWS_WHOLE),
    "train_on_prompt": OldName("prompt.loss_on", convert=loss_on("all", None)),
    "mask_history": OldName("prompt.loss_on", convert=loss_on("answer", "assistant")),
    "max_samples": OldName(
        "split.max_train_rows", "drawn by split.seed; max_rows of a source takes the first ones"
    ),
    "val_size": OldName("split.validation_fraction", convert=validation_part),
    "neat_packing": OldName("training.packing"),
    "disable_shuffling": OldName("training.row_order", convert=when_on("as_given")),
    "disable_gradient_checkpointing": OldName(
        None, convert=only(True, instead="write training.gradient_checkpointing: true")
    ),
    "use_unsloth_gc": OldName("training.gradient_checkpointing"),
    "stage": OldName(None, convert=only("sft", "pt", instead=_STAGE), implies=turns_of_stage),
    "mix_strategy": OldName(
        None, convert=only("concat", instead="write a weight for each source of data.train")
    ),
    "streaming": OldName(
        None, convert=only_off("write streaming: true at the hub source in data.train")
    ),
    "ignore_pad_token_for_loss": OldName(
        None, convert=only(True, instead="padding never carries loss; remove the key")
    ),
    "compute_type": OldName(None, "model.dtype and quantization.compute_dtype say so"),
    **refused(
        _DPO,
        "pref_beta pref_loss pref_ftx pref_bco_weight dpo_label_smoothing ref_model "
        "ref_model_adapters ref_model_quantization_bit kto_chosen_weight kto_rejected_weight "
        "simpo_gamma ld_alpha",
    ),
    **refused(
        "rewards are learned by grpo, see docs/aligning.md",
        "reward_model reward_model_adapters reward_model_quantization_bit",
    ),
    **refused("write a weight for each source of data.train", "interleave_probs"),
    **refused(
        _NOT_OFFERED,
        "freeze_trainable_layers freeze_trainable_modules freeze_extra_modules use_llama_pro "
        "use_dft_loss use_asft_loss use_eaft_loss asft_alpha eaft_alpha rope_scaling shift_attn "
        "mixture_of_depths moe_aux_loss_coef upcast_layernorm upcast_lmhead_output "
        "train_from_scratch create_new_adapter module_dropout oft_rank oft_block_size oft_target "
        "pissa_convert use_mca freeze_language_model split_special_tokens pure_bf16",
    ),
    **refused(
        _OPTIMIZER, "use_galore use_apollo use_badam use_adam_mini use_muon use_lion use_qgalore"
    ),
    **refused(
        _NO_TOKENS, "add_tokens add_special_tokens new_special_tokens new_special_tokens_config"
    ),
    **refused(_NO_TOKENS, "resize_vocab"),
    **refused(
        "calls and tools are written as the chat template has them; see docs/data.md", "tool_format"
    ),
    **refused(
        "thoughts are written as the chat template has them; see docs/data.md",
        "enable_thinking",
        True,
    ),
    **passed(
        "rows are read and cached by retune itself",
        "dataset_dir media_dir overwrite_cache preprocessing_num_workers preprocessing_batch_size "
        "tokenized_path data_shared_file_system buffer_size eval_on_each_dataset",
    ),
    **passed(
        "retune computes the same in its own way",
        "use_unsloth enable_liger_kernel use_reentrant_gc use_kv_cache use_v1_kernels pissa_iter "
        "init_special_tokens offload_folder cache_dir use_fast_tokenizer quantization_device_map "
        "fp8_backend fp8_enable_fsdp_float8_all_gather print_param_status infer_backend "
        "infer_dtype adapter_folder compute_dtype block_diag_attn",
    ),
    **passed("the report of a run shows what was measured", "plot_loss compute_accuracy"),
    **passed("what a run took is always measured", "include_effective_tokens_per_second"),
    **passed(
        "rows with pictures and sounds are not read",
        "freeze_vision_tower freeze_multi_modal_projector image_max_pixels image_min_pixels "
        "image_do_pan_and_scan crop_to_patches video_max_pixels video_min_pixels video_fps "
        "video_maxlen use_audio_in_video audio_sampling_rate",
    ),
    **passed(
        "scored answers are greedy, and samples are drawn as scoring says",
        "do_sample top_p top_k num_beams repetition_penalty length_penalty predict_with_generate "
        "eval_num_beams skip_special_tokens",
    ),
    **passed("it belongs to loraplus_lr_ratio, which is not offered", "loraplus_lr_embedding"),
    **passed("one process trains on one device", "resources_per_worker placement_strategy use_ray"),
    **passed(
        "MLflow always; tracking.uri says where",
        "use_wandb use_comet use_swanlab use_mlflow use_tensorboard",
    ),
}
"""By name; where a library has the same name for the same, the table of libraries stands."""
