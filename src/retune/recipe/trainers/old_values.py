"""What the values of old names mean today: conversions for `retune.recipe.trainers.old_names`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from retune.recipe.sections.optimizers import RENAMED


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
        null: What null stands for; None where it asks for nothing.
        implies: What else the name says, by dotted path, where the recipe says nothing of it.
    """

    new: str | None
    why: str = ""
    convert: Convert | None = None
    null: object = None
    implies: Callable[[Any, Mapping[str, Any]], Mapping[str, object]] | None = None


_SCHEDULES = {
    "constant_with_warmup": "constant",
    "cosine_with_min_lr": "cosine",
    "cosine_warmup_with_min_lr": "cosine",
}
_WATCHED = {
    "loss": "loss",
    "f1": "macro_f1",
    "macro_f1": "macro_f1",
    "f1_macro": "macro_f1",
    "accuracy": "accuracy",
    "execution_match": "sql_execution_match",
    "sql_execution_match": "sql_execution_match",
    "exact_match": "sql_exact_match",
    "sql_exact_match": "sql_exact_match",
}
_ORDERS = {"random": "random", "sequential": "as_given", "group_by_length": "by_length"}


def rows_per_step(value: Any, beside: Mapping[str, Any]) -> object:
    """Turn the rows of one pass into those of a whole optimizer step."""
    # The old name counts the rows of one pass; batch_size those of a whole optimizer step.
    parts = beside.get("gradient_accumulation_steps", beside.get("gradient_accumulation", 1))
    both_counts = all(type(each) is int for each in (value, parts))
    return value * parts if both_counts else value


def ratio(value: Any, beside: Mapping[str, Any]) -> object:
    """Take a part of all steps."""
    if type(value) in (int, float) and not 0 <= value < 1:
        raise ValueError(f"found {value}, expected a part of all steps, 0 to under 1")
    return value


def schedule(value: Any, beside: Mapping[str, Any]) -> object:
    """Turn a schedule's variants into its name of today."""
    return _SCHEDULES.get(value, value) if is_text(value) else value


def least_rate(value: Any, beside: Mapping[str, Any]) -> object:
    """Turn a lowest learning rate into a part of the highest."""
    # The older arguments of a schedule, or one of them alone.
    options = value if isinstance(value, dict) else {"min_lr": value}
    if not options:
        return Dropped("empty")
    unknown = sorted(set(options) - {"min_lr", "min_lr_rate"})
    if unknown or len(options) > 1:
        raise ValueError(
            f"found {sorted(options)}, expected min_lr or min_lr_rate, for schedule: cosine"
        )
    if "min_lr_rate" in options:
        return options["min_lr_rate"]
    highest, least = beside.get("learning_rate", beside.get("lr")), options["min_lr"]
    if not (is_finite(highest) and is_finite(least) and highest > 0):
        raise ValueError("is a rate of its own; write training.min_learning_rate_ratio")
    return least / highest


def optimizer(value: Any, beside: Mapping[str, Any]) -> object:
    """Turn an optimizer's older name into today's."""
    return RENAMED.get(value, value) if is_text(value) else value


def watched(value: Any, beside: Mapping[str, Any]) -> object:
    """Turn the name of a metric into what an evaluation is judged by."""
    found = _WATCHED.get(value.removeprefix("eval_")) if is_text(value) else None
    if found is None:
        raise ValueError(f"found {value!r}, expected one of {', '.join(_WATCHED)}")
    return found


def row_order(value: Any, beside: Mapping[str, Any]) -> object:
    """Turn a sampling strategy, or whether rows are grouped, into their order."""
    if type(value) is bool:
        return "by_length" if value else Dropped("off already; see training.row_order")
    if not is_text(value) or value not in _ORDERS:
        raise ValueError(f"found {value!r}, expected one of {', '.join(_ORDERS)}")
    return _ORDERS[value]


def loss_on(when_on: str | None, when_off: str | None) -> Convert:
    """Make a conversion of a flag into the tokens that carry loss."""

    def convert(value: Any, beside: Mapping[str, Any]) -> object:
        found = when_on if flag(value) else when_off
        return found or Dropped("prompt.loss_on says so already, unless the recipe changes it")

    return convert


def encoder_size(value: Any, beside: Mapping[str, Any]) -> object:
    """Take the width of P-tuning's encoder."""
    if beside.get("kind") == "prefix":
        raise ValueError("is called method.projection_size for prefix tuning")
    return value


def lowered(value: Any, beside: Mapping[str, Any]) -> object:
    """Write a name in small letters."""
    return value.lower() if is_text(value) else value


def only(*usual: object, instead: str) -> Convert:
    """Take nothing but values that ask for what happens anyway.

    Args:
        *usual: Such values, beside null, false, 0 and what is empty.
        instead: What to do for any other.

    Returns:
        The conversion.
    """

    def convert(value: Any, beside: Mapping[str, Any]) -> object:
        if value and value not in usual:
            raise ValueError(f"found {value!r}: {instead}")
        return Dropped("as it is anyway")

    return convert


def dtype(value: Any, beside: Mapping[str, Any]) -> object:
    """Take torch's name off a dtype."""
    return value.removeprefix("torch.") if is_text(value) else value


def evaluations(value: Any, beside: Mapping[str, Any]) -> object:
    """Turn a strategy into a number of evaluations, where it says none."""
    if value in ("no", False):
        return 0
    return Dropped("training.evaluations of them are spread evenly over the training")


def precision(dtype: str) -> Convert:
    """Make a conversion of a flag into a dtype."""

    def convert(value: Any, beside: Mapping[str, Any]) -> object:
        return dtype if flag(value) else Dropped("off already; model.dtype says the type")

    return convert


def four_bit(value: Any, beside: Mapping[str, Any]) -> object:
    """Turn the flag for 4 bits into a kind of quantization."""
    return "nf4" if flag(value) else "none"


def four_bit_type(value: Any, beside: Mapping[str, Any]) -> object:
    """Take NF4 alone."""
    if value != "nf4":
        raise ValueError(f"found {value!r}; nf4 is the only 4-bit type, see quantization.kind")
    return Dropped("nf4 is the only 4-bit type; quantization.kind switches it on")


def task_type(value: Any, beside: Mapping[str, Any]) -> object:
    """Take models that write alone."""
    if value != "CAUSAL_LM":
        instead = "for classes add a section head (head: {}), and remove the key"
        raise ValueError(f"found {value!r}; only CAUSAL_LM is written here, {instead}")
    return Dropped("CAUSAL_LM is the only task type")


def secret(value: Any, beside: Mapping[str, Any]) -> object:
    """Refuse what may be a token, without showing it."""
    if value:
        raise ValueError("secrets are read from the environment (HF_TOKEN); remove the key")
    return Dropped("the hub's token is read from HF_TOKEN")


def flag(value: Any) -> bool:
    """Take true or false alone."""
    if type(value) is not bool:
        raise ValueError("expected true or false")
    return bool(value)


def is_text(value: Any) -> bool:
    """Say whether a value is a text."""
    return isinstance(value, str)


def is_finite(value: Any) -> bool:
    """Say whether a value is a number that can be reckoned with."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max
