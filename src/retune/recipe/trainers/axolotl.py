"""Names of Axolotl's configuration files, by its schemas of 2023 to 2026."""

from __future__ import annotations

from retune.recipe.old_values import OldName, only, optimizer, rows_per_step, schedule
from retune.recipe.trainers.sources import listed_sources
from retune.recipe.trainers.tables import Table, passed, refused, renamed
from retune.recipe.trainers.values import (
    adapter_folder,
    aligned,
    all_turns,
    brain_float,
    checkpointing,
    evaluations_per_epoch,
    listed,
    method_kind,
    modules,
    plain_base,
    special_tokens,
    speed_plugins,
    template,
    validation_part,
    when_on,
    without_adapter,
)

_ROWS_WHOLE = "a longer row is left out and listed, never cut"
_LAYOUT = "each row is written by prompt.template, not by the other trainer's own text"
_PER_STEP = "it counts the rows of a whole optimizer step: multiplied by gradient accumulation"
_DPO = (
    "preferences are learned after supervised fine-tuning: write dpo: {pairs: FILE} with beta, loss"
    " and learning_rate, see docs/aligning.md"
)
_NO_TOKENS = (
    "no tokens are added to a model: save it with them and rows of its embedding for them first, "
    "then name them in method.trainable_tokens"
)
_NOT_OFFERED = "it would change the training and is not offered; remove the key"

AXOLOTL: Table = {
    # The model and its weights.
    **renamed(
        {
            "revision_of_model": "model.revision",
            "lora_target_parameters": "method.target_parameters",
            "peft_use_dora": "method.dora",
            "peft_use_rslora": "method.rslora",
            "peft_init_lora_weights": "method.init",
            "gradient_clipping": "training.max_gradient_norm",
            "noisy_embedding_alpha": "training.neftune_alpha",
            "cosine_min_lr_ratio": "training.min_learning_rate_ratio",
            "eval_batch_size": "scoring.runtime.batch_size",
            "default_system_message": "prompt.system",
            "mlflow_tracking_uri": "tracking.uri",
            "mlflow_experiment_name": "tracking.experiment",
        }
    ),
    "adapter": OldName("method.kind", convert=method_kind, null="full", implies=plain_base),
    "lora_model_dir": OldName("training.start_from", convert=adapter_folder),
    "lora_modules_to_save": OldName("method.modules_to_save", convert=listed),
    "lora_target_linear": OldName("method.target_modules", convert=when_on("all-linear")),
    "lora_target_modules": OldName("method.target_modules", convert=modules),
    "bf16": OldName("model.dtype", convert=brain_float),
    "bfloat16": OldName("model.dtype", convert=brain_float),
    "float16": OldName("model.dtype", convert=when_on("float16")),
    "float32": OldName("model.dtype", convert=when_on("float32")),
    "flash_attention": OldName("model.attention", convert=when_on("flash_attention_2")),
    "sdp_attention": OldName("model.attention", convert=when_on("sdpa")),
    "eager_attention": OldName("model.attention", convert=when_on("eager")),
    # Rows and prompts.
    "datasets": OldName("data.train", _LAYOUT, listed_sources, implies=all_turns),
    "pretraining_dataset": OldName("data.train", "", listed_sources),
    "test_datasets": OldName("data.test", _LAYOUT, listed_sources),
    "val_set_size": OldName("split.validation_fraction", convert=validation_part),
    "sequence_len": OldName("prompt.max_length", _ROWS_WHOLE),
    "sample_packing": OldName("training.packing"),
    "train_on_inputs": OldName(
        "prompt.loss_on", convert=when_on("all", "answers alone carry loss; see prompt.loss_on")
    ),
    "chat_template": OldName("prompt.template", convert=template),
    "chat_template_jinja": OldName("prompt.template", convert=template),
    "special_tokens": OldName(None, convert=special_tokens),
    "shuffle_merged_datasets": OldName(
        None, convert=only(True, instead="rows are drawn in random order; see training.row_order")
    ),
    "dataset_exact_deduplication": OldName(
        "quality.drop_duplicates", convert=when_on("exact", "quality.drop_duplicates is none")
    ),
    # Training.
    "micro_batch_size": OldName(
        "training.batch_size", _PER_STEP, rows_per_step, implies=without_adapter
    ),
    "num_epochs": OldName("training.epochs"),
    "lr_scheduler": OldName("training.schedule", convert=schedule),
    "optimizer": OldName("training.optimizer", convert=optimizer),
    "gradient_checkpointing": OldName("training.gradient_checkpointing", convert=checkpointing),
    "evals_per_epoch": OldName("training.evaluations", convert=evaluations_per_epoch),
    "plugins": OldName(None, convert=speed_plugins),
    "hf_use_auth_token": OldName(None, "the hub's token is read from HF_TOKEN"),
    "push_dataset_to_hub": OldName(None, convert=only(instead="nothing is uploaded; remove it")),
    # What would train something else.
    "rl": OldName(None, convert=aligned),
    **refused(_DPO, "rl_beta dpo_beta orpo_alpha rpo_alpha simpo_gamma cpo_alpha kto"),
    **refused(
        _DPO,
        "kto_desirable_weight kto_undesirable_weight dpo_use_weighting dpo_label_smoothing "
        "dpo_norm_loss dpo_padding_free dpo_use_liger_kernel dpo_use_logits_to_keep "
        "dpo_generate_during_eval precompute_ref_log_probs",
    ),
    **refused("rewards are learned by grpo, see docs/aligning.md", "reward_model trl vllm"),
    **refused(
        _NOT_OFFERED,
        "process_reward_model relora relora_steps relora_warmup_steps relora_cpu_offload "
        "relora_prune_ratio relora_prune_method jagged_restart_steps lisa_n_layers "
        "lisa_step_interval lisa_layers_attr loraplus_lr_ratio unfrozen_parameters "
        "peft_layers_to_transform peft_layers_pattern peft_layer_replication embedding_lr "
        "embedding_lr_scale lr_groups lr_div_factor lr_quadratic_warmup cosine_constant_lr_ratio "
        "adam_epsilon2 adam_beta3 use_pose pose_split_on_token_ids pose_max_context_len "
        "pose_num_chunks s2_attention xformers_attention flex_attention fp8 qat gptq diffusion "
        "llama4_linearized_experts overrides_of_model_config overrides_of_model_kwargs "
        "bnb_config_kwargs model_quantization_config model_quantization_config_kwargs "
        "reinit_weights curriculum_sampling sample_packing_sequentially min_sample_len "
        "pretraining_sample_concatenation dynamic_checkpoint streaming_multipack_buffer_size "
        "loss_watchdog_threshold loss_watchdog_patience eot_tokens torchdistx_path",
    ),
    **refused("write its entries into the recipe's section method", "peft"),
    **refused(
        "write the tokens' texts into method.trainable_tokens", "peft_trainable_token_indices"
    ),
    **refused(
        _NO_TOKENS,
        "tokens added_tokens_overrides resize_token_embeddings_to_32x shrink_embeddings "
        "fix_untrained_tokens",
    ),
    **refused(
        "the tokenizer is the one that comes with model.id; save the model with another one",
        "tokenizer_config tokenizer_use_mistral_common",
    ),
    **refused("a head for classes is the section head", "num_labels"),
    **refused(
        "one process trains on one device; remove the key",
        "sequence_parallel_degree context_parallel_size tensor_parallel_size dp_shard_size "
        "dp_replicate_size expert_parallel_size pipeline_parallel_size",
        1,
    ),
    # What changes nothing of what is learned.
    **passed(
        "read from the model",
        "base_model_config base_model_ignore_patterns cls_model_config model_type "
        "is_falcon_derived_model is_llama_derived_model is_mistral_derived_model "
        "is_qwen_derived_model lora_fan_in_fan_out peft_ensure_weight_tying processor_type",
    ),
    **passed(
        "the tokenizer is the one that comes with model.id",
        "tokenizer_type tokenizer_use_fast tokenizer_legacy tokenizer_save_jinja_files "
        "mean_resizing_embeddings embeddings_skip_upcast",
    ),
    **passed(
        "retune computes the same in its own way",
        "unsloth_cross_entropy_loss unsloth_lora_mlp unsloth_lora_qkv unsloth_lora_o "
        "unsloth_rms_norm unsloth_rope lora_mlp_kernel lora_qkv_kernel lora_o_kernel "
        "lora_embedding_kernel flash_attn_cross_entropy flash_attn_rms_norm flash_attn_fuse_qkv "
        "flash_attn_fuse_mlp flash_optimum cut_cross_entropy use_kernels batch_flattening "
        "multipack_real_batches pad_to_sequence_len flex_attn_compile_kwargs "
        "scaling_softmax peft_autocast_adapter_dtype layer_offloading chunked_cross_entropy "
        "chunked_cross_entropy_num_chunks",
    ),
    **passed(
        "retune places the model on the device itself",
        "device world_size ddp gpu_memory_limit lora_on_cpu qlora_sharded_model_loading gc_steps "
        "experimental_skip_move_to_device ring_attn_func heads_k_stride",
    ),
    **passed(
        "rows are read, cached and packed by retune itself",
        "dataset_prepared_path dataset_shard_num dataset_shard_idx dataset_processes "
        "dataset_keep_in_memory skip_prepare_dataset is_preprocess preprocess_iterable "
        "eval_sample_packing sample_packing_group_size sample_packing_bin_size "
        "sample_packing_eff_est sample_packing_mp_start_method total_num_tokens "
        "total_supervised_tokens pretrain_multipack_buffer_size pretrain_multipack_attn "
        "excess_length_strategy max_prompt_len num_dataset_shards_to_save",
    ),
    **passed(
        "training.evaluations and scoring say what is measured",
        "eval_table_size eval_max_new_tokens do_causal_lm_eval eval_causal_lm_metrics "
        "do_bench_eval bench_dataset bench_split",
    ),
    **passed(
        "checkpoints follow training.checkpoint_every_steps, and those that are needed are kept",
        "saves_per_epoch save_first_step",
    ),
    **passed(
        "a training that was killed always resumes from its last whole checkpoint",
        "auto_resume_from_checkpoints",
    ),
    **passed(
        "the command line and the registry say so",
        "strict axolotl_config_path merge_lora merge_method profiler_steps profiler_steps_start "
        "torchao",
    ),
}
"""By name; where a library has the same name for the same, the table of libraries stands."""
