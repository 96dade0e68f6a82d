"""What the values of other trainers' names mean in a recipe; conversions for their tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from retune.recipe.trainers.old_values import Convert, Dropped, flag, is_finite, is_text, only

Beside = Mapping[str, Any]

_LIST = re.compile(r"[\w.\s-]+(,[\w.\s-]*)*")
"""Names with commas between them; a single name is a list of one."""
_OF_TURNS = ("chat_template", "sharegpt")
_METHODS = {"lora": "lora", "qlora": "qlora", "full": "full"}
_ATTENTION = {"fa2": "flash_attention_2", "sdpa": "sdpa", "disabled": "eager", "eager": "eager"}
_AFTER = "after supervised fine-tuning: see docs/aligning.md"
_ROW_SIZE = (
    "is a number of rows: write split.validation_fraction, a part of the rows under 1, and "
    "split.max_validation_rows for a smaller number"
)
_TOKENS_KEPT = (
    "the special tokens are those of the model's own tokenizer: remove the key where it repeats "
    "them, else save the model with a tokenizer that has them"
)


def aligned(value: Any, beside: Beside) -> object:
    """Refuse what learns from preferences or rewards, each with the section that does so here."""
    if not value:
        return Dropped("it asks for nothing")
    if value in ("grpo", "gdpo", "ppo", "reinforce"):
        raise ValueError(f"found {value!r}: rewards are learned by grpo: {{}}, {_AFTER}")
    instead = "preferences are learned by dpo: {pairs: FILE} with beta, loss and learning_rate"
    raise ValueError(f"found {value!r}: {instead}, {_AFTER}")


def method_kind(value: Any, beside: Beside) -> object:
    """Turn the kind of an adapter into a method."""
    if value in ("", False):
        return "full"
    if not is_text(value) or value not in _METHODS:
        raise ValueError(f"found {value!r}; write method.kind, see docs/methods.md")
    return _METHODS[value]


def plain_base(value: Any, beside: Beside) -> dict[str, Any]:
    """Say that other trainers quantize only where they are told to, as a recipe does not."""
    said = any(
        beside.get(name) not in (None, False)
        for name in ("load_in_4bit", "load_in_8bit", "quantization_bit", "quantization_config")
    )
    return {} if said or value == "qlora" else {"quantization.kind": "none"}


def without_adapter(value: Any, beside: Beside) -> dict[str, Any]:
    """Say that Axolotl trains all weights where no adapter is named, as a recipe does not."""
    named = {"adapter", "method", "quantization", "load_in_4bit"} & set(beside)
    return {} if named else {"method.kind": "full", "quantization.kind": "none"}


def twice_the_rank(value: Any, beside: Beside) -> dict[str, Any]:
    """Say the scale that LLaMA-Factory takes where none is given."""
    given = beside.get("lora_alpha") is not None
    return {} if given or type(value) is not int else {"method.alpha": 2 * value}


def all_turns(value: Any, beside: Beside) -> dict[str, Any]:
    """Say that turns of a chat are all learned, where nothing else is said."""
    entries = value if isinstance(value, list) else [value]
    kinds = {each.get("type") for each in entries if isinstance(each, dict) and _is_plain(each)}
    learned = beside.get("train_on_inputs") is True
    return {"prompt.loss_on": "assistant"} if kinds & {*_OF_TURNS} and not learned else {}


def _is_plain(entry: Mapping[str, Any]) -> bool:
    return is_text(entry.get("type"))


def turns_of_stage(value: Any, beside: Beside) -> dict[str, Any]:
    """Say that LLaMA-Factory learns each answer of a chat, where nothing else is said."""
    return {"prompt.loss_on": "assistant"} if value == "sft" else {}


def modules(value: Any, beside: Beside) -> object:
    """Turn names with commas between them into a list; all of them have a name of their own.

    Any other text is a regular expression, there as here, in which a comma is no division.
    """
    if beside.get("lora_target_linear") is True:
        # Axolotl joins the two, and every layer that can be named is among all linear ones.
        return Dropped("lora_target_linear takes all linear layers")
    if value == []:
        return Dropped("it names nothing")
    names = _split(value) if is_text(value) and _LIST.fullmatch(value) else value
    return "all-linear" if names in (["all"], ["all-linear"]) else names


def listed(value: Any, beside: Beside) -> object:
    """Turn names with commas between them into a list."""
    names = _split(value) if is_text(value) else value
    return Dropped("it names nothing") if names == [] else names


def _split(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def when_on(found: object, off: str = "off already") -> Convert:
    """Make a conversion of a flag into a value; off says nothing."""

    def convert(value: Any, beside: Beside) -> object:
        return found if flag(value) else Dropped(off)

    return convert


def checkpointing(value: Any, beside: Beside) -> object:
    """Turn a kind of gradient checkpointing into whether there is any."""
    return value not in ("", "none", "None", "false", "False") if is_text(value) else value


def attention(value: Any, beside: Beside) -> object:
    """Turn LLaMA-Factory's names of attention into a recipe's."""
    if value == "auto":
        return Dropped("model.attention is chosen by the device where nothing is said")
    if not is_text(value) or value not in _ATTENTION:
        raise ValueError(f"found {value!r}, expected one of auto, {', '.join(_ATTENTION)}")
    return _ATTENTION[value]


def bits(value: Any, beside: Beside) -> object:
    """Turn a number of bits into a kind of quantization."""
    if value == 4:
        return "nf4"
    raise ValueError(f"found {value!r}; write quantization.kind: nf4 (4 bits), or none")


def validation_part(value: Any, beside: Beside) -> object:
    """Take the part of rows that is held back."""
    if value == 0:
        return Dropped("some rows are always held back: split.validation_fraction of them")
    if type(value) in (int, float) and value >= 1:
        raise ValueError(f"found {value}, which {_ROW_SIZE}")
    return value


def evaluations_per_epoch(value: Any, beside: Beside) -> object:
    """Turn evaluations of an epoch into those of the whole training."""
    named = ("num_epochs", "num_train_epochs", "epochs")
    epochs = next((beside[name] for name in named if beside.get(name) is not None), None)
    unbounded = beside.get("max_steps") in (None, 0, -1)
    finite = is_finite(value) and is_finite(epochs) and is_finite(value * epochs)
    if not (unbounded and finite):
        raise ValueError("write training.evaluations, the number over the whole training")
    return max(0, round(value * epochs))


def steps(value: Any, beside: Beside) -> object:
    """Take a number of steps; -1 stands for none."""
    below = type(value) is int and value < 0
    return Dropped("training.epochs says how long") if below else value


def brain_float(value: Any, beside: Beside) -> object:
    """Turn the flag for bfloat16, or one of its further values, into a type."""
    if value == "auto":
        return Dropped("model.dtype is auto already")
    return "bfloat16" if value == "full" or flag(value) else Dropped("off already; see model.dtype")


def special_tokens(value: Any, beside: Beside) -> object:
    """Take the padding alone, which no answer has."""
    if not isinstance(value, Mapping):
        raise ValueError(f"found {value!r}, expected tokens by name; {_TOKENS_KEPT}")
    named = sorted(name for name, token in value.items() if token and name != "pad_token")
    if named:
        raise ValueError(f"has {', '.join(named)}: {_TOKENS_KEPT}")
    return Dropped("padding carries no loss and is read by no token")


def own_token(value: Any, beside: Beside) -> object:
    """Refuse another end token than the tokenizer's."""
    raise ValueError(f"found {value!r}: {_TOKENS_KEPT}")


def text_column(value: Any, beside: Beside) -> object:
    """Take the key of plain text where it is none that is looked for anyway."""
    return Dropped("it is looked for anyway; see data.columns") if value == "text" else value


def same_tokenizer(value: Any, beside: Beside) -> object:
    """Take the model's own tokenizer, under the name of the model."""
    names = ("model.id", "base_model", "model_name_or_path", "model_name", "model_id")
    models = {beside[name] for name in names if is_text(beside.get(name))}
    if is_text(value) and models and value not in models:
        raise ValueError(
            f"found {value!r}, but the tokenizer is the one that comes with model.id: save the "
            "model with the other one, or remove the key"
        )
    return Dropped("the tokenizer is the one that comes with model.id")


def template(value: Any, beside: Beside) -> object:
    """Take a template that stands in a file; names are of another program's own list."""
    if value == "tokenizer_default":
        return Dropped("prompt.template is the tokenizer's own where nothing is said")
    if value == "jinja" and beside.get("chat_template_jinja"):
        return Dropped("chat_template_jinja is the template")
    if is_text(value) and value.endswith(".jinja"):
        return value
    if is_text(value) and ("{%" in value or "{{" in value):
        raise ValueError(
            "found a template's text: write it into a file, and prompt.template: FILE.jinja"
        )
    raise ValueError(
        f"found {value!r:.60}, of another trainer's own list: leave it out for the tokenizer's own "
        "template, write prompt.template_from: MODEL to borrow that of an instruct model, or "
        "prompt.template: FILE.jinja"
    )


def adapter_folder(value: Any, beside: Beside) -> object:
    """Take one adapter to go on from."""
    if value is True:
        return Dropped("a training that was killed always resumes from its last whole checkpoint")
    if value in (False, "", []):
        return Dropped("off already; training.start_from names an adapter to go on from")
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    if isinstance(value, list) or (is_text(value) and "," in value):
        raise ValueError("names several adapters; training goes on from one")
    return value


def speed_plugins(value: Any, beside: Beside) -> object:
    """Pass over plugins that make a training faster, and refuse any that may change it."""
    names = value if isinstance(value, list) else [value]
    fast = ("liger", "cut_cross_entropy", "cutcrossentropy", "spectrum_none")
    other = [str(each) for each in names if not any(part in str(each).lower() for part in fast)]
    return only(instead=f"{', '.join(other)} is not offered; remove it")(other, beside)


def loss_name(value: Any, beside: Beside) -> object:
    """Take the one loss out of a list of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
