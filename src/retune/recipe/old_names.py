"""Names that older tutorials use, and what each is called in a recipe.

A name is understood in any section and at the top level, wherever a tutorial may have put it,
unless that section has a key of this name today. Those of the libraries for which a recipe has no
key stand in `retune.recipe.old_names_without_key`, those of other trainers' files in
`retune.recipe.trainers`.

Sources: the arguments of transformers' TrainingArguments, BitsAndBytesConfig and Mxfp4Config, of
peft's LoraConfig and those of its learned inputs, and of TRL's SFTConfig, DPOConfig, GRPOConfig and
SFTTrainer, in the versions from 2023 to 2026. A test holds that none of theirs is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from retune.recipe.old_names_without_key import WITHOUT_COUNTERPART
from retune.recipe.old_values import (
    Dropped,
    OldName,
    dtype,
    eight_bit,
    encoder_size,
    evaluations,
    flash_attention,
    four_bit,
    four_bit_type,
    least_rate,
    loss_on,
    lowered,
    optimizer,
    precision,
    ratio,
    row_order,
    rows_per_step,
    schedule,
    task_type,
    watched,
)
from retune.recipe.trainers.axolotl import AXOLOTL
from retune.recipe.trainers.libraries import IN_SECTIONS, LIBRARIES, PARTS
from retune.recipe.trainers.llama_factory import LLAMA_FACTORY
from retune.recipe.trainers.sources import named_sources
from retune.recipe.trainers.values import adapter_folder, listed, steps, text_column

__all__ = ["OLD_NAMES", "Dropped", "OldName", "entry_of"]

_PER_STEP = "it counts the rows of a whole optimizer step: multiplied by gradient accumulation"

OLD_NAMES: dict[str, OldName] = {
    # The base model.
    "model_name_or_path": OldName("model.id"),
    "pretrained_model_name_or_path": OldName("model.id"),
    "base_model": OldName("model.id"),
    "model_id": OldName("model.id"),
    "revision": OldName("model.revision"),
    "torch_dtype": OldName("model.dtype", convert=dtype),
    "bf16": OldName("model.dtype", convert=precision("bfloat16")),
    "fp16": OldName("model.dtype", convert=precision("float16")),
    "attn_implementation": OldName("model.attention"),
    "use_flash_attention_2": OldName("model.attention", convert=flash_attention),
    # Quantization.
    "load_in_4bit": OldName("quantization.kind", convert=four_bit, null="none"),
    "load_in_8bit": OldName(None, convert=eight_bit),
    "bnb_4bit_quant_type": OldName(None, convert=four_bit_type),
    "bnb_4bit_use_double_quant": OldName("quantization.double"),
    "use_nested_quant": OldName("quantization.double"),
    "bnb_4bit_compute_dtype": OldName("quantization.compute_dtype", convert=dtype),
    # LoRA.
    "lora_r": OldName("method.r"),
    "lora_rank": OldName("method.r"),
    "lora_alpha": OldName("method.alpha"),
    "lora_dropout": OldName("method.dropout"),
    "lora_target_modules": OldName("method.target_modules"),
    "use_rslora": OldName("method.rslora"),
    "use_dora": OldName("method.dora"),
    "bias": OldName("method.bias"),
    "modules_to_save": OldName("method.modules_to_save", convert=listed),
    "init_lora_weights": OldName("method.init"),
    "task_type": OldName(None, convert=task_type),
    "r": OldName("method.r"),
    "target_modules": OldName("method.target_modules"),
    "target_parameters": OldName("method.target_parameters"),
    # Learned inputs.
    "num_virtual_tokens": OldName("method.virtual_tokens"),
    "prompt_tuning_init_text": OldName("method.init_text"),
    "prefix_projection": OldName("method.projection"),
    "encoder_reparameterization_type": OldName("method.encoder", convert=lowered),
    "encoder_hidden_size": OldName("method.encoder_size", convert=encoder_size),
    "encoder_num_layers": OldName("method.encoder_layers"),
    "encoder_dropout": OldName("method.encoder_dropout"),
    # Prompt and rows.
    "max_seq_length": OldName("prompt.max_length"),
    "max_length": OldName("prompt.max_length"),
    "train_file": OldName("data.train"),
    "validation_file": OldName("data.test"),
    "test_file": OldName("data.test"),
    "train_dataset": OldName("data.train", convert=named_sources),
    "eval_dataset": OldName("data.test", convert=named_sources),
    "dataset_text_field": OldName(
        "data.columns.answer", "the text that is learned as a whole", text_column
    ),
    "completion_only_loss": OldName("prompt.loss_on", convert=loss_on(None, "all")),
    "assistant_only_loss": OldName("prompt.loss_on", convert=loss_on("assistant", None)),
    "chat_template_path": OldName("prompt.template_from"),
    "reasoning_effort": OldName("prompt.reasoning_effort"),
    # Training.
    "per_device_train_batch_size": OldName(
        "training.batch_size",
        _PER_STEP,
        rows_per_step,
    ),
    "gradient_accumulation_steps": OldName("training.gradient_accumulation"),
    "num_train_epochs": OldName("training.epochs"),
    "lr": OldName("training.learning_rate"),
    "lr_scheduler_type": OldName("training.schedule", convert=schedule),
    "warmup_ratio": OldName(
        "training.warmup_steps", "a value under 1 is a part of all steps", ratio
    ),
    "max_grad_norm": OldName("training.max_gradient_norm"),
    "optim": OldName("training.optimizer", convert=optimizer),
    "neftune_noise_alpha": OldName("training.neftune_alpha"),
    "logging_steps": OldName("training.runtime.log_every_steps"),
    "dataloader_num_workers": OldName("training.runtime.data_workers"),
    "save_steps": OldName("training.checkpoint_every_steps"),
    "load_best_model_at_end": OldName("training.keep_best"),
    "evaluation_strategy": OldName("training.evaluations", convert=evaluations),
    "eval_strategy": OldName("training.evaluations", convert=evaluations),
    "per_device_eval_batch_size": OldName("scoring.runtime.batch_size"),
    "metric_for_best_model": OldName("training.watch", convert=watched),
    "early_stopping_patience": OldName("training.early_stopping.patience"),
    "early_stopping_threshold": OldName("training.early_stopping.min_gain"),
    "group_by_length": OldName("training.row_order", convert=row_order),
    "train_sampling_strategy": OldName("training.row_order", convert=row_order),
    "activation_checkpointing": OldName("training.gradient_checkpointing"),
    "lr_scheduler_kwargs": OldName("training.min_learning_rate_ratio", convert=least_rate),
    "min_lr": OldName("training.min_learning_rate_ratio", convert=least_rate),
    "min_lr_rate": OldName("training.min_learning_rate_ratio"),
    "per_gpu_train_batch_size": OldName("training.batch_size", _PER_STEP, rows_per_step),
    "seed": OldName("seed"),
    "resume_from_checkpoint": OldName("training.start_from", convert=adapter_folder),
    # Called as ever, but often written at the top.
    "max_steps": OldName("training.max_steps", convert=steps),
    "learning_rate": OldName("training.learning_rate"),
    "warmup_steps": OldName("training.warmup_steps"),
    "weight_decay": OldName("training.weight_decay"),
    "adam_beta1": OldName("training.adam_beta1"),
    "adam_beta2": OldName("training.adam_beta2"),
    "adam_epsilon": OldName("training.adam_epsilon"),
    "tf32": OldName("training.tf32"),
    "torch_compile": OldName("training.torch_compile"),
    "packing": OldName("training.packing"),
    **WITHOUT_COUNTERPART,
    # What means the same in several programs stands where it takes the most forms.
    **LIBRARIES,
    **LLAMA_FACTORY,
    **AXOLOTL,
}


def entry_of(path: Sequence[str]) -> OldName | None:
    """Find what became of a name.

    Args:
        path: Keys from the top, the last one a name that the recipe may not have.

    Returns:
        The entry; None where the name is not known either.
    """
    found = IN_SECTIONS.get(".".join(path)) or OLD_NAMES.get(path[-1])
    if found is not None:
        return found
    why = next((why for part, why in PARTS.items() if path[-1].startswith(part)), None)
    return OldName(None, why) if why else None
