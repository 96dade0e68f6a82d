"""Whether the weights of a snapshot are those that its configuration says, and are numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from retune.errors import ConfigError
from retune.modeling.architectures import open_snapshot
from retune.modeling.prequantized import MXFP4, PLAIN, quantized_as

_HEAD = "score.weight"
"""Of a classification head, which is made anew for other classes."""
_ADAPTER = re.compile(r"\.(lora_[A-Za-z_]+|base_layer)\.")
_NUMBER = re.compile(r"\.\d+\.")
_SHOWN = 5
_READ_AT_ONCE = 1 << 26
"""Numbers of one weight that are looked at at once: at most 256 MB in float32."""


def check_weights(folder: Path, auto: Any = AutoModelForCausalLM) -> None:
    """Refuse a snapshot whose weights are missing, of another shape, or no numbers.

    The model is loaded by transformers itself on a device without memory, so that names are told as
    loading will tell them; then each weight is looked through once. Where the files of a hub id
    are not here yet, nothing is looked at: loading refuses then what is wrong.

    Args:
        folder: A snapshot folder.
        auto: Auto class of transformers for what the model is to do.

    Raises:
        ConfigError: The message names what was found, and what was expected.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return
    stored = quantized_as(folder)
    if stored in (PLAIN, MXFP4):
        found = _load_without_memory(folder, auto)
        refuse_wrong(folder, found, allowed={_HEAD} if auto is not AutoModelForCausalLM else ())
    for path in files:
        _look_through(path, plain=stored == PLAIN)


def _load_without_memory(folder: Path, auto: Any) -> Mapping[str, Any]:
    # transformers prints a table of what it found; the message says it.
    shown, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, found = open_snapshot(
            folder, dtype=torch.float32, device=torch.device("meta"), auto=auto
        )
    except ConfigError:
        raise
    except Exception as error:  # transformers raises whatever its checks of a setting do
        raise ConfigError(f"{folder}: cannot be loaded ({error}).") from error
    finally:
        logging.set_verbosity(shown)
        if has_bars:
            logging.enable_progress_bar()
    _refuse_left_over(folder, {*model.state_dict()}, {*map(str, found["unexpected_keys"])})
    return found


def _refuse_left_over(folder: Path, known: Collection[str], unexpected: Iterable[str]) -> None:
    """Refuse weights that belong to the model and would not be loaded.

    Other weights may lie in the files: of a vision tower, of a head that predicts further tokens,
    of an older transformers.
    """
    left_over = sorted(unexpected)
    adapters = [name for name in left_over if _ADAPTER.search(name)]
    if adapters:
        raise ConfigError(
            f"{folder}: {len(adapters)} weights are those of an adapter ({_some(adapters)}), which "
            "would not be loaded. Merge it before saving (model.merge_and_unload(), then "
            "save_pretrained), or save the adapter alone."
        )
    forms, blocks = {_form(name) for name in known}, dict[str, set[str]]()
    for name in left_over:
        block = _NUMBER.search(name)
        blocks.setdefault(name[: block.end()] if block else name, set()).add(_form(name))
    # A block that predicts further tokens has more in it than the others.
    more = [block for block, inner in blocks.items() if inner <= forms]
    if more:
        raise ConfigError(
            f"{folder}: the files hold {len(more)} more blocks than config.json says "
            f"({_some(block.strip('.') for block in more)}), and these would not be loaded. The "
            "two are not of one model: take both from the same release."
        )


def _form(name: str) -> str:
    return _NUMBER.sub(".N.", name)


def refuse_wrong(folder: Path, found: Mapping[str, Any], allowed: Collection[str] = ()) -> None:
    """Refuse a snapshot of which transformers would make up a part at random.

    Args:
        folder: The snapshot.
        found: What `from_pretrained` says of loading.
        allowed: Names of weights that may be made up.

    Raises:
        ConfigError: Weights are missing, or of another shape than `config.json` says.
    """
    misshapen = {
        str(name): f"{name} is {_by(stored)} in the files, and {_by(wanted)} by config.json"
        for name, stored, wanted in found["mismatched_keys"]
        if name not in allowed
    }
    missing = sorted({*map(str, found["missing_keys"])} - {*allowed} - misshapen.keys())
    if misshapen:
        raise ConfigError(
            f"{folder}: {len(misshapen)} weights have another shape than its config.json says: "
            f"{_some(misshapen[name] for name in sorted(misshapen))}. The two are not of one "
            "model: take both from the same release, or save the whole model with save_pretrained."
        )
    if missing:
        raise ConfigError(
            f"{folder}: {len(missing)} weights are missing or have another shape, and transformers "
            f"would make them up at random: {_some(missing)}. Save the whole model with "
            "save_pretrained."
        )


def _look_through(path: Path, *, plain: bool) -> None:
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                _check_numbers(path, name, file.get_tensor(name), plain=plain)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}): the file is cut or damaged. Copy or download it "
            "again."
        ) from error


def _check_numbers(path: Path, name: str, weight: torch.Tensor, *, plain: bool) -> None:
    if not weight.is_floating_point():
        if plain and name.endswith((".weight", ".bias")):
            raise ConfigError(
                f"{path}: {name} is stored as {_dtype(weight)}, and config.json says nothing of a "
                "quantization. Save the weights as numbers with a point (bfloat16, float16, "
                "float32), or keep the quantization_config of the model."
            )
        return
    if weight.element_size() == 1:
        # Scales and blocks of 8 bits, which torch cannot look at one by one.
        return
    for part in weight.flatten().split(_READ_AT_ONCE):
        finite = torch.isfinite(part)
        if not bool(finite.all()):
            raise ConfigError(
                f"{path}: {name} has {int((~finite).sum()):,} values that are no finite numbers "
                f"(NaN or infinite) among {weight.numel():,}. A training or a conversion before "
                "broke it: take the weights from before that."
            )


def _dtype(weight: torch.Tensor) -> str:
    return str(weight.dtype).removeprefix("torch.")


def _by(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))


def _some(parts: Iterable[str]) -> str:
    listed = list(parts)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ("; " if " is " in listed[0] else ", ").join(listed[:_SHOWN]) + more
