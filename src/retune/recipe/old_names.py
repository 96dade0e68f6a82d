"""Names that older tutorials use, and what each is called in a recipe.

One plain table. A name is understood in any section and at the top level, wherever a tutorial may
have put it, unless that section has a key of this name today. `new` is the dotted path of today;
None means that nothing corresponds, and `why` says why the recipe does without.

Sources: the arguments of transformers' TrainingArguments and BitsAndBytesConfig, of peft's
LoraConfig and of TRL's SFTConfig and SFTTrainer, in the versions from 2023 to 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Dropped:
    """A conversion's answer for a value that asks for nothing.

    Args:
        why: Reason shown to the user.
    """

    why: str


Convert = Callable[[Any, Mapping[str, Any]], object]
"""Turns an old value into today's, given the other keys of its section as written. Raises
ValueError where the value asks for what a recipe cannot give."""


@dataclass(frozen=True, slots=True)
class OldName:
    """What became of one old name.

    Args:
        new: Dotted path of today; None where nothing corresponds.
        why: Reason for the user, where the name is gone or its meaning moved.
        convert: Turns the old value into today's; None keeps it.
    """

    new: str | None
    why: str = ""
    convert: Convert | None = None


def _rows_per_step(value: Any, beside: Mapping[str, Any]) -> object:
    # The old name counts the rows of one pass; batch_size those of a whole optimizer step.
    parts = beside.get("gradient_accumulation_steps", beside.get("gradient_accumulation", 1))
    both_counts = all(type(each) is int for each in (value, parts))
    return value * parts if both_counts else value


def _ratio(value: Any, beside: Mapping[str, Any]) -> object:
    if type(value) in (int, float) and not 0 <= value < 1:
        raise ValueError(f"found {value}, expected a part of all steps, 0 to under 1")
    return value


def _schedule(value: Any, beside: Mapping[str, Any]) -> object:
    return {"constant_with_warmup": "constant"}.get(value, value) if _is_text(value) else value


def _dtype(value: Any, beside: Mapping[str, Any]) -> object:
    return value.removeprefix("torch.") if _is_text(value) else value


def _evaluations(value: Any, beside: Mapping[str, Any]) -> object:
    if value in ("no", False):
        return 0
    return Dropped("training.evaluations of them are spread evenly over the training")


def _precision(dtype: str) -> Convert:
    def convert(value: Any, beside: Mapping[str, Any]) -> object:
        return dtype if _flag(value) else Dropped("off already; model.dtype says the type")

    return convert


def _four_bit(value: Any, beside: Mapping[str, Any]) -> object:
    return "nf4" if _flag(value) else "none"


def _eight_bit(value: Any, beside: Mapping[str, Any]) -> object:
    return _only_off("8-bit weights are not offered; write quantization.kind: nf4 or none")(
        value, beside
    )


def _four_bit_type(value: Any, beside: Mapping[str, Any]) -> object:
    if value != "nf4":
        raise ValueError(f"found {value!r}; nf4 is the only 4-bit type, see quantization.kind")
    return Dropped("nf4 is the only 4-bit type; quantization.kind switches it on")


def _task_type(value: Any, beside: Mapping[str, Any]) -> object:
    if value != "CAUSAL_LM":
        raise ValueError(f"found {value!r}; only CAUSAL_LM is offered, remove the key")
    return Dropped("CAUSAL_LM is the only task type")


def _only_off(instead: str) -> Convert:
    def convert(value: Any, beside: Mapping[str, Any]) -> object:
        if _flag(value):
            raise ValueError(instead)
        return Dropped("off already")

    return convert


def _flash_attention(value: Any, beside: Mapping[str, Any]) -> object:
    return "flash_attention_2" if _flag(value) else Dropped("off already; see model.attention")


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("expected true or false")
    return bool(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_EVEN = "training.evaluations of them are spread evenly over the training"
_BY_LOSS = "the best weights are those of the lowest held-out loss (training.keep_best)"
_TOKENIZER = "the tokenizer is the one that comes with model.id"
_ROWS = "data.columns and prompt say what the model reads"
_ANSWER_ONLY = "the loss is always on the answer only"
_TOKEN = "the hub's token is read from HF_TOKEN"
_STORE = "each result has a folder of its own under store.folder"

OLD_NAMES: dict[str, OldName] = {
    # The base model.
    "model_name_or_path": OldName("model.id"),
    "pretrained_model_name_or_path": OldName("model.id"),
    "base_model": OldName("model.id"),
    "model_id": OldName("model.id"),
    "torch_dtype": OldName("model.dtype", convert=_dtype),
    "bf16": OldName("model.dtype", convert=_precision("bfloat16")),
    "fp16": OldName("model.dtype", convert=_precision("float16")),
    "attn_implementation": OldName("model.attention"),
    "use_flash_attention_2": OldName("model.attention", convert=_flash_attention),
    "tokenizer": OldName(None, _TOKENIZER),
    "tokenizer_name": OldName(None, _TOKENIZER),
    "processing_class": OldName(None, _TOKENIZER),
    "device_map": OldName(None, "retune places the model on the device itself"),
    "use_cache": OldName(None, "on for answers, off for training, always"),
    "use_auth_token": OldName(
        None, _TOKEN, _only_off("secrets are read from the environment (HF_TOKEN); remove the key")
    ),
    # Quantization.
    "load_in_4bit": OldName("quantization.kind", convert=_four_bit),
    "load_in_8bit": OldName(None, convert=_eight_bit),
    "bnb_4bit_quant_type": OldName(None, convert=_four_bit_type),
    "bnb_4bit_use_double_quant": OldName("quantization.double"),
    "use_nested_quant": OldName("quantization.double"),
    "bnb_4bit_compute_dtype": OldName("quantization.compute_dtype", convert=_dtype),
    # LoRA.
    "lora_r": OldName("method.r"),
    "lora_rank": OldName("method.r"),
    "lora_alpha": OldName("method.alpha"),
    "lora_dropout": OldName("method.dropout"),
    "lora_target_modules": OldName("method.target_modules"),
    "use_rslora": OldName("method.rslora"),
    "use_dora": OldName("method.dora"),
    "bias": OldName("method.bias"),
    "modules_to_save": OldName("method.modules_to_save"),
    "init_lora_weights": OldName("method.init"),
    "task_type": OldName(None, convert=_task_type),
    # Prompt and rows.
    "max_seq_length": OldName("prompt.max_length"),
    "max_length": OldName("prompt.max_length"),
    "train_file": OldName("data.train"),
    "test_file": OldName("data.test"),
    "dataset_text_field": OldName(None, _ROWS),
    "formatting_func": OldName(None, _ROWS),
    "dataset_kwargs": OldName(None, _ROWS),
    "remove_unused_columns": OldName(None, _ROWS),
    "completion_only_loss": OldName(None, _ANSWER_ONLY),
    "assistant_only_loss": OldName(None, _ANSWER_ONLY),
    # Training.
    "per_device_train_batch_size": OldName(
        "training.batch_size",
        "it counts the rows of a whole optimizer step: multiplied by gradient accumulation",
        _rows_per_step,
    ),
    "gradient_accumulation_steps": OldName("training.gradient_accumulation"),
    "num_train_epochs": OldName("training.epochs"),
    "lr": OldName("training.learning_rate"),
    "lr_scheduler_type": OldName("training.schedule", convert=_schedule),
    "warmup_ratio": OldName(
        "training.warmup_steps", "a value under 1 is a part of all steps", _ratio
    ),
    "max_grad_norm": OldName("training.max_gradient_norm"),
    "optim": OldName("training.optimizer"),
    "neftune_noise_alpha": OldName("training.neftune_alpha"),
    "logging_steps": OldName("training.runtime.log_every_steps"),
    "dataloader_num_workers": OldName("training.runtime.data_workers"),
    "save_steps": OldName("training.checkpoint_every_steps"),
    "load_best_model_at_end": OldName("training.keep_best"),
    "evaluation_strategy": OldName("training.evaluations", convert=_evaluations),
    "eval_strategy": OldName("training.evaluations", convert=_evaluations),
    "eval_steps": OldName(None, _EVEN),
    "per_device_eval_batch_size": OldName("scoring.runtime.batch_size"),
    "metric_for_best_model": OldName(None, _BY_LOSS),
    "greater_is_better": OldName(None, _BY_LOSS),
    "save_strategy": OldName(None, "checkpoints follow training.checkpoint_every_steps"),
    "save_total_limit": OldName(None, "retune removes checkpoints that are no longer needed"),
    "logging_strategy": OldName(None, "training.runtime.log_every_steps says how often"),
    "group_by_length": OldName(None, "gone from transformers 5; rows are not grouped by length"),
    "gradient_checkpointing_kwargs": OldName(None, "retune uses the non-reentrant form"),
    "tf32": OldName(None, "set by the device"),
    "torch_compile": OldName(None, "not offered; results do not depend on it"),
    # Where results go.
    "output_dir": OldName(None, _STORE),
    "overwrite_output_dir": OldName(None, _STORE),
    "report_to": OldName(None, "MLflow always; tracking.uri says where"),
    "run_name": OldName(None, "runs bear the recipe's name"),
    "disable_tqdm": OldName(None, "the command line says how much is printed"),
    "push_to_hub": OldName(
        None, convert=_only_off("nothing is uploaded; the registry keeps models, remove the key")
    ),
}
