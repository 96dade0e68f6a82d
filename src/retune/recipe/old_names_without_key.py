"""Old names that a recipe has no key for: why it does without, or what to write instead.

Those of the first table ask for nothing that changes what is learned, and are passed over with the
reason. Those of the second would change it: any value but the usual one is an error.
"""

from __future__ import annotations

from retune.recipe.old_values import OldName, only, only_off
from retune.recipe.trainers.values import own_token, same_tokenizer

_PASSED_OVER: dict[str, tuple[str, ...]] = {
    "the tokenizer is the one that comes with model.id": ("tokenizer_kwargs", "processing_class"),
    "padding carries no loss and is read by no token": ("pad_token",),
    "rows are padded on the right in training and prompts on the left for answers": (
        "padding_side",
        "pad_to_multiple_of",
        "padding_free",
    ),
    "data.columns and prompt say what the model reads": (
        "formatting_func",
        "dataset_kwargs",
        "dataset_num_proc",
        "dataset_batch_size",
        "remove_unused_columns",
        "label_names",
        "data_collator",
    ),
    "prompt.loss_on says which tokens carry loss": ("response_template", "instruction_template"),
    "data and split say which rows are learned and which are held out": (
        "do_train",
        "do_eval",
        "do_predict",
    ),
    "no row is cut: one over prompt.max_length is left out and listed": ("truncation_mode",),
    "evaluations see each row by itself": ("eval_packing",),
    "retune places the model on the device itself": (
        "device_map",
        "low_cpu_mem_usage",
        "max_memory",
        "use_cpu",
        "no_cuda",
        "use_mps_device",
        "local_rank",
    ),
    "one process trains on one device": (
        "ddp_backend",
        "ddp_broadcast_buffers",
        "ddp_bucket_cap_mb",
        "ddp_find_unused_parameters",
        "ddp_static_graph",
        "ddp_timeout",
        "fsdp_config",
        "accelerator_config",
        "average_tokens_across_devices",
        "save_on_each_node",
        "log_on_each_node",
        "eval_use_gather_object",
        "bnb_4bit_quant_storage",
    ),
    "on for answers, off for training, always": ("use_cache",),
    "8-bit weights are not offered, and this belongs to them": (
        "llm_int8_threshold",
        "llm_int8_skip_modules",
        "llm_int8_enable_fp32_cpu_offload",
        "llm_int8_has_fp16_weight",
    ),
    "modules of method.modules_to_save that share weights stay together": ("ensure_weight_tying",),
    "read from the model, or from what is saved": (
        "auto_mapping",
        "base_model_name_or_path",
        "fan_in_fan_out",
        "inference_mode",
        "peft_version",
        "token_dim",
        "num_attention_heads",
        "num_layers",
        "num_transformer_submodules",
    ),
    "method.init_text says whether inputs start from a text": ("prompt_tuning_init",),
    "training.evaluations of them are spread evenly over the training": (
        "eval_steps",
        "eval_delay",
    ),
    "the model is measured before the first step wherever there are evaluations": (
        "eval_on_start",
        "logging_first_step",
    ),
    "an evaluation measures the loss, and training.watch": (
        "batch_eval_metrics",
        "compute_metrics",
        "eval_accumulation_steps",
        "eval_do_concat_batches",
        "include_for_metrics",
        "include_inputs_for_metrics",
        "prediction_loss_only",
        "preprocess_logits_for_metrics",
        "bf16_full_eval",
        "fp16_full_eval",
    ),
    "it follows from training.watch: losses fall, scores rise": ("greater_is_better",),
    "checkpoints follow training.checkpoint_every_steps, and those that are needed are kept": (
        "save_strategy",
        "save_total_limit",
        "save_only_model",
        "save_safetensors",
    ),
    "a training that was killed always resumes from its last whole checkpoint": (
        "ignore_data_skip",
        "restore_callback_states_from_checkpoint",
        "enable_jit_checkpoint",
    ),
    "training.runtime.log_every_steps says how often": ("logging_strategy",),
    "retune uses the non-reentrant form": (
        "gradient_checkpointing_kwargs",
        "activation_checkpointing_kwargs",
    ),
    "torch's own choice is taken": ("torch_compile_backend", "torch_compile_mode"),
    "seed draws the order of rows too": ("data_seed", "shuffle_dataset"),
    "a loss that is no number always stops the training": ("logging_nan_inf_filter",),
    "the vocabulary is projected to only where there is a label, which saves the same memory": (
        "use_liger_kernel",
        "liger_kernel_config",
    ),
    "it cannot change the result; training.runtime.data_workers is what there is": (
        "dataloader_in_order",
        "dataloader_multiprocessing_context",
        "dataloader_persistent_workers",
        "dataloader_pin_memory",
        "dataloader_prefetch_factor",
        "torch_empty_cache_steps",
        "length_column_name",
    ),
    "what a run took is always measured": (
        "include_num_input_tokens_seen",
        "include_tokens_per_second",
        "skip_memory_metrics",
    ),
    "each result has a folder of its own under store.folder": (
        "output_dir",
        "overwrite_output_dir",
        "logging_dir",
    ),
    "MLflow always; tracking.uri says where": (
        "report_to",
        "project",
        "trackio_bucket_id",
        "trackio_space_id",
        "trackio_static_space_id",
    ),
    "runs bear the recipe's name": ("run_name",),
    "the command line says how much is printed": (
        "debug",
        "disable_tqdm",
        "log_level",
        "log_level_replica",
        "callbacks",
    ),
    "nothing is uploaded; the registry keeps models": (
        "hub_always_push",
        "hub_model_id",
        "hub_private_repo",
        "hub_revision",
        "hub_strategy",
    ),
}

_ONE_DEVICE = "one process trains on one device; remove the key"
_AS_ONE = "is not offered; write its entries into the recipe's section"
_FORM = "this form of LoRA is not offered; remove the key, or see method.init"
_SECRET = "secrets are read from the environment (HF_TOKEN); remove the key"

_REFUSED: dict[str, OldName] = {
    **{
        name: OldName(None, convert=same_tokenizer)
        for name in ("tokenizer", "tokenizer_name", "tokenizer_name_or_path")
    },
    "eos_token": OldName(None, convert=own_token),
    "use_auth_token": OldName(None, "the hub's token is read from HF_TOKEN", only_off(_SECRET)),
    "push_to_hub": OldName(
        None, convert=only_off("nothing is uploaded; the registry keeps models, remove the key")
    ),
    "trust_remote_code": OldName(
        None, convert=only_off("code from the hub is never run; choose a model without")
    ),
    "model_init_kwargs": OldName(None, convert=only(instead=f"{_AS_ONE} model")),
    "quantization_config": OldName(None, convert=only(instead=f"{_AS_ONE} quantization")),
    "peft_config": OldName(None, convert=only(instead=f"{_AS_ONE} method")),
    "lora_config": OldName(None, convert=only(instead=f"{_AS_ONE} method")),
    "peft_type": OldName(None, convert=only("LORA", instead="write method.kind")),
    "dequantize": OldName(None, "experts in MXFP4 are always dequantized before training"),
    "modules_to_not_convert": OldName(
        None, convert=only(instead="retune quantizes all linear layers but the head")
    ),
    "full_determinism": OldName(
        None, convert=only_off("seed makes a training repeatable on one device; remove the key")
    ),
    "packing_strategy": OldName(
        None, convert=only("bfd", instead="rows are never cut; bfd is the only strategy")
    ),
    "auto_find_batch_size": OldName(
        None,
        convert=only_off(
            "it would change the effective batch; write batch_size and gradient_accumulation"
        ),
    ),
    "label_smoothing_factor": OldName(None, convert=only(instead="it is not offered; write 0")),
    "loss_type": OldName(
        None, convert=only("nll", "chunked_nll", instead="nll is the only loss; remove the key")
    ),
    "compute_loss_func": OldName(None, convert=only(instead="the loss is the likelihood's")),
    "router_aux_loss_coef": OldName(
        None,
        convert=only(
            0.001, instead="experts' routers are balanced as the model's own settings say; remove"
        ),
    ),
    "dataloader_drop_last": OldName(None, convert=only_off("every row is learned; remove it")),
    "activation_offloading": OldName(
        None, convert=only_off("it is not offered; write training.gradient_checkpointing: true")
    ),
    "optim_args": OldName(None, convert=only(instead="write training.adam_beta1 and its like")),
    "optim_target_modules": OldName(
        None, convert=only(instead="GaLore and APOLLO are not offered; remove the key")
    ),
    **{
        name: OldName(None, convert=only(instead="training.optimizer names one; remove the key"))
        for name in ("optimizers", "optimizer_cls_and_kwargs")
    },
    **{
        name: OldName(None, convert=only(instead=_ONE_DEVICE))
        for name in ("fsdp", "deepspeed", "parallelism_config")
    },
    "trainable_token_indices": OldName(
        None, convert=only(instead="write the tokens' texts into method.trainable_tokens")
    ),
    "exclude_modules": OldName(
        None, convert=only(instead="name the layers that get an adapter in method.target_modules")
    ),
    "lora_bias": OldName(None, convert=only_off("it is not offered; see method.bias")),
    "init_weights": OldName(None, convert=only(True, instead="it is not offered; remove the key")),
    **{
        name: OldName(None, convert=only(16, instead=_FORM))
        for name in (
            "alora_invocation_tokens",
            "alpha_pattern",
            "arrow_config",
            "corda_config",
            "eva_config",
            "kasa_config",
            "layer_replication",
            "layers_pattern",
            "layers_to_transform",
            "loftq_config",
            "lora_ga_config",
            "megatron_config",
            "megatron_core",
            "monteclora_config",
            "qalora_group_size",
            "rank_pattern",
            "runtime_config",
            "use_bdlora",
            "use_qalora",
            "velora_config",
        )
    },
}

WITHOUT_COUNTERPART: dict[str, OldName] = {
    **{name: OldName(None, why) for why, names in _PASSED_OVER.items() for name in names},
    **_REFUSED,
}
"""All of them, as `retune.recipe.old_names` takes them."""
