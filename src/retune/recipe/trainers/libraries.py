"""Names of scripts around TRL and Unsloth, and of TRL's settings for preferences and rewards."""

from __future__ import annotations

from retune.recipe.old_values import OldName, dtype, only, only_off, rows_per_step
from retune.recipe.trainers.sources import named_sources
from retune.recipe.trainers.tables import Table, passed, refused, renamed
from retune.recipe.trainers.values import checkpointing, loss_name, modules, when_on

_SPLIT = "write the source by hand: data.train: [{hub: owner/name, config: ..., split: ...}]"
_DPO = (
    "belongs to preferences, which are learned after supervised fine-tuning: write dpo: {pairs: "
    "FILE} with beta, loss and learning_rate, see docs/aligning.md"
)
_GRPO = (
    "belongs to rewards, which are learned after supervised fine-tuning: write grpo: {answers: "
    "..., max_new_tokens: ...}, see docs/aligning.md"
)
_NO_FORM = "this form of it is not offered; remove the key"
_PER_STEP = "it counts the pairs of a whole optimizer step: multiplied by gradient accumulation"

LIBRARIES: Table = {
    # TRL's command line.
    **renamed(
        {
            "model_name": "model.id",
            "lora_target_parameters": "method.target_parameters",
            "use_bnb_nested_quant": "quantization.double",
        }
    ),
    "dtype": OldName("model.dtype", convert=dtype),
    "use_peft": OldName(
        "method.kind",
        convert=lambda value, beside: "lora" if value else "full",
        null="full",
    ),
    "lora_target_modules": OldName("method.target_modules", convert=modules),
    "lora_task_type": OldName(
        None, convert=only("CAUSAL_LM", instead="for classes add a section head")
    ),
    "dataset_name": OldName("data.train", convert=named_sources),
    **refused(
        _SPLIT, "dataset_config datasets_config dataset_mixer dataset_splits dataset_configs"
    ),
    "dataset_train_split": OldName(None, convert=only("train", instead=_SPLIT)),
    "dataset_test_split": OldName(None, convert=only("test", "validation", instead=_SPLIT)),
    "dataset_streaming": OldName(None, convert=only_off(_SPLIT)),
    # Unsloth.
    "use_gradient_checkpointing": OldName("training.gradient_checkpointing", convert=checkpointing),
    "random_state": OldName("seed"),
    "full_finetuning": OldName("method.kind", convert=when_on("full")),
    **refused("the model is trained as it is; remove the key", "rope_scaling resize_model_vocab"),
    **refused("answers alone carry loss; see prompt.loss_on", "train_on_responses_only", True),
    **passed(
        "a run keeps what it trained, merged or beside its base; see merge and registry",
        "save_model save_method save_path save_gguf push_model push_gguf push_method hub_path "
        "adapter_file maximum_memory_usage temporary_location",
    ),
    **passed(
        "retune computes the same in its own way",
        "fast_inference gpu_memory_utilization float8_kv_cache max_lora_rank "
        "disable_log_stats use_exact_model_name fix_tokenizer ignore_bias_buffers "
        "gradient_checkpointing_use_reentrant",
    ),
    # Preferences and rewards, at the top.
    **refused(f"{_DPO}; of rewards it is grpo.beta", "beta"),
    **refused(
        _DPO,
        "disable_dropout precompute_ref_batch_size loss_weights f_divergence_type "
        "f_alpha_divergence_coef label_smoothing use_weighting discopop_tau sync_ref_model "
        "ref_model_mixup_alpha ref_model_sync_steps reference_free model_adapter_name "
        "ref_adapter_name center_rewards_coefficient",
    ),
    **refused(
        _GRPO,
        "num_generations num_generations_eval generation_batch_size steps_per_generation min_p "
        "generation_kwargs cache_implementation num_iterations epsilon delta epsilon_high "
        "sapo_temperature_neg sapo_temperature_pos vespo_k_pos vespo_lambda_pos vespo_k_neg "
        "vespo_lambda_neg importance_sampling_level reward_weights multi_objective_aggregation "
        "scale_rewards mask_truncated_completions top_entropy_quantile entropy_coef "
        "use_adaptive_entropy entropy_coef_min entropy_coef_max entropy_coef_delta entropy_target "
        "max_tool_calling_iterations off_policy_mask_threshold use_bias_correction_kl "
        "reward_funcs reward_model_name_or_path cast_lm_head_to_fp32",
    ),
    **refused(
        "a template's switches are not passed on; see prompt.template", "chat_template_kwargs"
    ),
    **passed(
        "no prompt is cut: prompt.max_length bounds prompt and answer together",
        "max_prompt_length max_completion_length max_target_length",
    ),
    **passed("scored answers are greedy; grpo has a temperature of its own", "temperature"),
    **passed(
        "retune writes answers with its own engine",
        "use_vllm ds3_gather_for_generation log_completions log_multimodal log_unique_prompts "
        "num_completions_to_print log_completions_hub_repo use_transformers_continuous_batching "
        "transformers_continuous_batching_config use_transformers_paged use_logits_to_keep "
        "generate_during_eval",
    ),
    # Whole sections of scripts.
    **refused("write its entries into the recipe's section method", "lora"),
    **refused(
        "write its entries into the recipe's section training",
        "training_args training_arguments trainer sft_config sft args",
    ),
    **refused("write its entries into the recipe's section dpo", "dpo_config"),
    **refused("write its entries into the recipe's section grpo", "grpo_config"),
}

IN_SECTIONS: Table = {
    "dpo.loss_type": OldName("dpo.loss", convert=loss_name),
    "dpo.per_device_train_batch_size": OldName("dpo.batch_size", _PER_STEP, rows_per_step),
    "dpo.micro_batch_size": OldName("dpo.batch_size", _PER_STEP, rows_per_step),
    "dpo.num_train_epochs": OldName("dpo.epochs"),
    "dpo.num_epochs": OldName("dpo.epochs"),
    "dpo.lr": OldName("dpo.learning_rate"),
    "dpo.val_size": OldName("dpo.validation_fraction"),
    "dpo.label_smoothing": OldName(None, convert=only(instead=_NO_FORM)),
    "dpo.dataset": OldName("dpo.pairs"),
    "dpo.rl_beta": OldName("dpo.beta"),
    "dpo.pref_beta": OldName("dpo.beta"),
    "dpo.pref_loss": OldName("dpo.loss", convert=loss_name),
    "grpo.num_generations": OldName("grpo.answers"),
    "grpo.max_completion_length": OldName("grpo.max_new_tokens"),
    "grpo.lr": OldName("grpo.learning_rate"),
    **{
        f"grpo.{name}": entry
        for name, entry in {
            **refused(
                "counts answers, not prompts: write grpo.prompts_per_step and grpo.answers",
                "per_device_train_batch_size micro_batch_size generation_batch_size",
            ),
            **refused("write grpo.max_steps", "num_train_epochs num_epochs"),
            **refused(_NO_FORM, "top_p top_k min_p repetition_penalty", 1, 1.0),
            **refused(_NO_FORM, "loss_type scale_rewards reward_weights epsilon_high"),
        }.items()
    },
}
"""Names that mean another key in a section than elsewhere."""

PARTS = {
    "wandb_": "MLflow always; tracking.uri says where",
    "comet_": "MLflow always; tracking.uri says where",
    "swanlab_": "MLflow always; tracking.uri says where",
    "trackio_": "MLflow always; tracking.uri says where",
    "mlflow_": "tracking says where MLflow writes",
    "hf_mlflow_": "tracking says where MLflow writes",
    "gradio_": "retune serve and retune ui show a model and its runs",
    "export_": "a run keeps what it trained, merged or beside its base; see merge and registry",
    "ray_": "one process trains on one device",
    "liger_": "retune computes the same in its own way",
    "vllm_": "retune writes answers with its own engine",
    "galore_": "it belongs to an optimizer that is not offered",
    "apollo_": "it belongs to an optimizer that is not offered",
    "badam_": "it belongs to an optimizer that is not offered",
    "ppo_": "it belongs to a training that is not offered",
}
"""Beginnings of names of any trainer that ask for nothing by themselves, and the reason."""
