"""Names that older tutorials and other trainers use, and what each is called in a recipe.

A name is understood in any section and at the top level, wherever a file may have put it, unless
that section has a key of this name today. Those for which a recipe has no key stand in
`names_without_key`. What means the same in several programs stands once, in the way that takes the
most forms.

Sources: the arguments of transformers' TrainingArguments, BitsAndBytesConfig and Mxfp4Config, of
peft's LoraConfig and those of its learned inputs, and of TRL's SFTConfig, DPOConfig, GRPOConfig,
SFTTrainer and command line, of Unsloth's scripts, and of the files of Axolotl and LLaMA-Factory,
in the versions from 2023 to 2026. A test holds that none of the libraries' is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from retune.recipe.trainers.names_without_key import WITHOUT_COUNTERPART, begins_without_counterpart
from retune.recipe.trainers.old_values import (
    OldName,
    dtype,
    encoder_size,
    evaluations,
    four_bit,
    four_bit_type,
    least_rate,
    loss_on,
    lowered,
    only,
    optimizer,
    precision,
    ratio,
    row_order,
    rows_per_step,
    schedule,
    secret,
    task_type,
    watched,
)
from retune.recipe.trainers.sources import listed_sources, named_sources
from retune.recipe.trainers.values import (
    adapter_folder,
    aligned,
    all_turns,
    attention,
    bits,
    brain_float,
    checkpointing,
    evaluations_per_epoch,
    listed,
    loss_name,
    method_kind,
    modules,
    own_token,
    plain_base,
    same_tokenizer,
    special_tokens,
    speed_plugins,
    steps,
    template,
    text_column,
    turns_of_stage,
    twice_the_rank,
    validation_part,
    when_on,
    without_adapter,
)

_PER_STEP = "it counts the rows of a whole optimizer step: multiplied by gradient accumulation"
_PAIRS_PER_STEP = _PER_STEP.replace("rows", "pairs")
_ROWS_WHOLE = "a longer row is left out and listed, never cut"
_LAYOUT = "each row is written by prompt.template, not by the other trainer's own text"
_STAGE = (
    "sft and pt are what training does; for dpo write dpo: {pairs: FILE}, for rewards grpo: {}, "
    "both after supervised fine-tuning, see docs/aligning.md"
)
_NO_FORM = "this form of it is not offered; remove the key"

_RENAMED = {
    # Values stay as they are. Some are called as ever, but often written elsewhere.
    "model.id": "model_name_or_path pretrained_model_name_or_path base_model model_id model_name",
    "model.revision": "revision model_revision revision_of_model",
    "model.attention": "attn_implementation",
    "quantization.double": """
        bnb_4bit_use_double_quant use_nested_quant use_bnb_nested_quant double_quantization
    """,
    "method.r": "lora_r r",
    "method.alpha": "lora_alpha",
    "method.dropout": "lora_dropout",
    "method.rslora": "use_rslora peft_use_rslora",
    "method.dora": "use_dora peft_use_dora",
    "method.bias": "bias",
    "method.init": "init_lora_weights peft_init_lora_weights",
    "method.target_modules": "target_modules",
    "method.target_parameters": "target_parameters lora_target_parameters",
    "method.virtual_tokens": "num_virtual_tokens",
    "method.init_text": "prompt_tuning_init_text",
    "method.projection": "prefix_projection",
    "method.encoder_layers": "encoder_num_layers",
    "method.encoder_dropout": "encoder_dropout",
    "data.train": "train_file",
    "data.test": "validation_file test_file",
    "prompt.max_length": "max_seq_length max_length",
    "prompt.template_from": "chat_template_path",
    "prompt.reasoning_effort": "reasoning_effort",
    "prompt.system": "default_system default_system_message",
    "training.gradient_accumulation": "gradient_accumulation_steps",
    "training.epochs": "num_train_epochs num_epochs",
    "training.learning_rate": "learning_rate lr",
    "training.warmup_steps": "warmup_steps",
    "training.weight_decay": "weight_decay",
    "training.adam_beta1": "adam_beta1",
    "training.adam_beta2": "adam_beta2",
    "training.adam_epsilon": "adam_epsilon",
    "training.max_gradient_norm": "max_grad_norm gradient_clipping",
    "training.neftune_alpha": "neftune_noise_alpha neft_alpha noisy_embedding_alpha",
    "training.min_learning_rate_ratio": "min_lr_rate cosine_min_lr_ratio",
    "training.packing": "packing sample_packing neat_packing",
    "training.gradient_checkpointing": "activation_checkpointing use_unsloth_gc",
    "training.tf32": "tf32",
    "training.torch_compile": "torch_compile",
    "training.checkpoint_every_steps": "save_steps",
    "training.keep_best": "load_best_model_at_end",
    "training.early_stopping.patience": "early_stopping_patience early_stopping_steps",
    "training.early_stopping.min_gain": "early_stopping_threshold",
    "training.runtime.log_every_steps": "logging_steps",
    "training.runtime.data_workers": "dataloader_num_workers",
    "scoring.max_new_tokens": "max_new_tokens",
    "scoring.runtime.batch_size": "per_device_eval_batch_size eval_batch_size",
    "seed": "seed random_state",
    "tracking.uri": "mlflow_tracking_uri",
    "tracking.experiment": "mlflow_experiment_name",
}
"""Keys of today, and their old names."""

OLD_NAMES: dict[str, OldName] = {
    **{old: OldName(new) for new, names in _RENAMED.items() for old in names.split()},
    # The base model and its tokenizer.
    "torch_dtype": OldName("model.dtype", convert=dtype),
    "dtype": OldName("model.dtype", convert=dtype),
    "bf16": OldName("model.dtype", convert=brain_float),
    "bfloat16": OldName("model.dtype", convert=brain_float),
    "fp16": OldName("model.dtype", convert=precision("float16")),
    "float16": OldName("model.dtype", convert=when_on("float16")),
    "float32": OldName("model.dtype", convert=when_on("float32")),
    "use_flash_attention_2": OldName("model.attention", convert=when_on("flash_attention_2")),
    "flash_attention": OldName("model.attention", convert=when_on("flash_attention_2")),
    "sdp_attention": OldName("model.attention", convert=when_on("sdpa")),
    "eager_attention": OldName("model.attention", convert=when_on("eager")),
    "flash_attn": OldName("model.attention", convert=attention),
    "tokenizer": OldName(None, convert=same_tokenizer),
    "tokenizer_name": OldName(None, convert=same_tokenizer),
    "tokenizer_name_or_path": OldName(None, convert=same_tokenizer),
    "use_auth_token": OldName(None, convert=secret),
    "eos_token": OldName(None, convert=own_token),
    "special_tokens": OldName(None, convert=special_tokens),
    # Quantization.
    "load_in_4bit": OldName("quantization.kind", convert=four_bit, null="none"),
    "quantization_bit": OldName("quantization.kind", convert=bits, null="none"),
    "load_in_8bit": OldName(
        None,
        convert=only(instead="8-bit weights are not offered; write quantization.kind: nf4 or none"),
    ),
    "bnb_4bit_quant_type": OldName(None, convert=four_bit_type),
    "bnb_4bit_compute_dtype": OldName("quantization.compute_dtype", convert=dtype),
    # The method.
    "adapter": OldName("method.kind", convert=method_kind, null="full", implies=plain_base),
    "finetuning_type": OldName("method.kind", convert=method_kind, implies=plain_base),
    "use_peft": OldName(
        "method.kind",
        convert=lambda value, beside: "lora" if value else "full",
        null="full",
    ),
    "full_finetuning": OldName("method.kind", convert=when_on("full")),
    "task_type": OldName(None, convert=task_type),
    "lora_rank": OldName("method.r", implies=twice_the_rank),
    "lora_target": OldName("method.target_modules", convert=modules),
    "lora_target_modules": OldName("method.target_modules", convert=modules),
    "lora_target_linear": OldName("method.target_modules", convert=when_on("all-linear")),
    "modules_to_save": OldName("method.modules_to_save", convert=listed),
    "lora_modules_to_save": OldName("method.modules_to_save", convert=listed),
    "additional_target": OldName("method.modules_to_save", convert=listed),
    "pissa_init": OldName("method.init", convert=when_on("pissa")),
    "encoder_reparameterization_type": OldName("method.encoder", convert=lowered),
    "encoder_hidden_size": OldName("method.encoder_size", convert=encoder_size),
    # Rows and prompts.
    "train_dataset": OldName("data.train", convert=named_sources),
    "dataset_name": OldName("data.train", convert=named_sources),
    "dataset": OldName("data.train", convert=named_sources),
    "datasets": OldName("data.train", _LAYOUT, listed_sources, implies=all_turns),
    "pretraining_dataset": OldName("data.train", "", listed_sources),
    "eval_dataset": OldName("data.test", convert=named_sources),
    "test_datasets": OldName("data.test", _LAYOUT, listed_sources),
    "val_set_size": OldName("split.validation_fraction", convert=validation_part),
    "val_size": OldName("split.validation_fraction", convert=validation_part),
    "max_samples": OldName(
        "split.max_train_rows", "drawn by split.seed; max_rows of a source takes the first ones"
    ),
    "dataset_exact_deduplication": OldName(
        "quality.drop_duplicates", convert=when_on("exact", "quality.drop_duplicates is none")
    ),
    "dataset_text_field": OldName(
        "data.columns.answer", "the text that is learned as a whole", text_column
    ),
    "sequence_len": OldName("prompt.max_length", _ROWS_WHOLE),
    "cutoff_len": OldName("prompt.max_length", _ROWS_WHOLE),
    "chat_template": OldName("prompt.template", convert=template),
    "chat_template_jinja": OldName("prompt.template", convert=template),
    "template": OldName("prompt.template", convert=template),
    "completion_only_loss": OldName("prompt.loss_on", convert=loss_on(None, "all")),
    "assistant_only_loss": OldName("prompt.loss_on", convert=loss_on("assistant", None)),
    "train_on_inputs": OldName(
        "prompt.loss_on", convert=when_on("all", "answers alone carry loss; see prompt.loss_on")
    ),
    "train_on_prompt": OldName("prompt.loss_on", convert=loss_on("all", None)),
    "mask_history": OldName("prompt.loss_on", convert=loss_on("answer", "assistant")),
    # Training.
    "stage": OldName(None, convert=only("sft", "pt", instead=_STAGE), implies=turns_of_stage),
    "rl": OldName(None, convert=aligned),
    "per_device_train_batch_size": OldName("training.batch_size", _PER_STEP, rows_per_step),
    "per_gpu_train_batch_size": OldName("training.batch_size", _PER_STEP, rows_per_step),
    "micro_batch_size": OldName(
        "training.batch_size", _PER_STEP, rows_per_step, implies=without_adapter
    ),
    "max_steps": OldName("training.max_steps", convert=steps),
    "lr_scheduler_type": OldName("training.schedule", convert=schedule),
    "lr_scheduler": OldName("training.schedule", convert=schedule),
    "lr_scheduler_kwargs": OldName("training.min_learning_rate_ratio", convert=least_rate),
    "min_lr": OldName("training.min_learning_rate_ratio", convert=least_rate),
    "warmup_ratio": OldName(
        "training.warmup_steps", "a value under 1 is a part of all steps", ratio
    ),
    "optim": OldName("training.optimizer", convert=optimizer),
    "optimizer": OldName("training.optimizer", convert=optimizer),
    "gradient_checkpointing": OldName("training.gradient_checkpointing", convert=checkpointing),
    "use_gradient_checkpointing": OldName("training.gradient_checkpointing", convert=checkpointing),
    "evaluation_strategy": OldName("training.evaluations", convert=evaluations),
    "eval_strategy": OldName("training.evaluations", convert=evaluations),
    "evals_per_epoch": OldName("training.evaluations", convert=evaluations_per_epoch),
    "metric_for_best_model": OldName("training.watch", convert=watched),
    "group_by_length": OldName("training.row_order", convert=row_order),
    "train_sampling_strategy": OldName("training.row_order", convert=row_order),
    "disable_shuffling": OldName("training.row_order", convert=when_on("as_given")),
    "adapter_name_or_path": OldName("training.start_from", convert=adapter_folder),
    "lora_model_dir": OldName("training.start_from", convert=adapter_folder),
    "resume_from_checkpoint": OldName("training.start_from", convert=adapter_folder),
    "plugins": OldName(None, convert=speed_plugins),
    **WITHOUT_COUNTERPART,
}

IN_SECTIONS: dict[str, OldName] = {
    "dpo.loss_type": OldName("dpo.loss", convert=loss_name),
    "dpo.pref_loss": OldName("dpo.loss", convert=loss_name),
    "dpo.per_device_train_batch_size": OldName("dpo.batch_size", _PAIRS_PER_STEP, rows_per_step),
    "dpo.micro_batch_size": OldName("dpo.batch_size", _PAIRS_PER_STEP, rows_per_step),
    "dpo.num_train_epochs": OldName("dpo.epochs"),
    "dpo.num_epochs": OldName("dpo.epochs"),
    "dpo.lr": OldName("dpo.learning_rate"),
    "dpo.val_size": OldName("dpo.validation_fraction"),
    "dpo.dataset": OldName("dpo.pairs"),
    "dpo.rl_beta": OldName("dpo.beta"),
    "dpo.pref_beta": OldName("dpo.beta"),
    "grpo.num_generations": OldName("grpo.answers"),
    "grpo.max_completion_length": OldName("grpo.max_new_tokens"),
    "grpo.lr": OldName("grpo.learning_rate"),
    **{
        name: OldName(None, convert=only(*usual, instead=instead))
        for instead, usual, names in (
            (
                "counts answers, not prompts: write grpo.prompts_per_step and grpo.answers",
                (),
                "grpo.per_device_train_batch_size grpo.micro_batch_size grpo.generation_batch_size",
            ),
            ("write grpo.max_steps", (), "grpo.num_train_epochs grpo.num_epochs"),
            (_NO_FORM, (1, 1.0), "grpo.top_p grpo.top_k grpo.min_p grpo.repetition_penalty"),
            (
                _NO_FORM,
                (),
                "dpo.label_smoothing grpo.loss_type grpo.scale_rewards grpo.reward_weights "
                "grpo.epsilon_high",
            ),
        )
        for name in names.split()
    },
}
"""Names that mean another key in a section than elsewhere."""


def entry_of(path: Sequence[str]) -> OldName | None:
    """Find what became of a name.

    Args:
        path: Keys from the top, the last one a name that the recipe may not have.

    Returns:
        The entry; None where the name is not known either.
    """
    name = path[-1]
    known = IN_SECTIONS.get(".".join(path)) or OLD_NAMES.get(name)
    return known or begins_without_counterpart(name)
