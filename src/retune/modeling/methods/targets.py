"""Which layers get a low-rank adapter: what a recipe's `target_modules` means on a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from retune.errors import ConfigError
from retune.modeling.methods.module_names import ends, last_part, list_endings
from retune.modeling.methods.whole_modules import is_tied
from retune.recipe.sections.method import ALL_LINEAR

_FIELD = "method.target_modules"
_LINEAR = (nn.Linear, Conv1D)
"""What peft calls linear; layers of bitsandbytes are of the first."""


def find_targets(
    model: PreTrainedModel, target_modules: str | Sequence[str], whole: Sequence[str] = ()
) -> dict[str, nn.Module]:
    """Return the layers that get an adapter.

    Args:
        model: The model to adapt.
        target_modules: As in the recipe: ``all-linear``, a regular expression that a full name has
            to match as a whole, or ends of names.
        whole: Full names of the modules that are trained as a whole.

    Returns:
        Layers by their full names, in the order of the model.

    Raises:
        ConfigError: A name or the expression matches nothing, or something that no adapter can
            stand beside; the message says what there is.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    head = model.get_output_embeddings()
    if target_modules == ALL_LINEAR:
        # As peft does: neither the output head nor what is trained as a whole, such as a
        # classification head.
        return {
            name: module
            for name, module in modules.items()
            if isinstance(module, _LINEAR) and module is not head and name not in whole
        }
    if isinstance(target_modules, str):
        found = {n: m for n, m in modules.items() if re.fullmatch(target_modules, n)}
        unmatched = [] if found else [target_modules]
    else:
        found = {n: m for n, m in modules.items() if any(ends(n, t) for t in target_modules)}
        unmatched = [t for t in target_modules if not any(ends(n, t) for n in found)]
    if unmatched:
        raise ConfigError(_matches_nothing(unmatched, target_modules, model, whole))
    for name, module in found.items():
        _refuse_unfit(name, module, model, whole)
    return found


def _matches_nothing(
    unmatched: Sequence[str],
    target_modules: str | Sequence[str],
    model: PreTrainedModel,
    whole: Sequence[str],
) -> str:
    there = _adaptable(model, whole)
    has = f"It has: {list_endings(there)}; or use {ALL_LINEAR}."
    if not isinstance(target_modules, str):
        return f"{_FIELD}: {', '.join(unmatched)} match no layer of this model. {has}"
    one = next(iter(there), "")
    hint = (
        f"A list stands for ends of names: [{target_modules}]. "
        if any(ends(name, target_modules) for name in there)
        else ""
    )
    return (
        f"{_FIELD}: the regular expression {target_modules} matches no layer of this model. It has "
        f"to match a full name as a whole, such as {one}. {hint}{has}"
    )


def _refuse_unfit(
    name: str, module: nn.Module, model: PreTrainedModel, whole: Sequence[str]
) -> None:
    there = f"Name others: {list_endings(_adaptable(model, whole))}; or use {ALL_LINEAR}."
    if name in whole:
        raise ConfigError(
            f"{_FIELD}: {name} is trained as a whole (method.modules_to_save, or as the head). "
            f"Leave it out. {there}"
        )
    if module is model.get_output_embeddings():
        # TRL multiplies with the head's own weights, past an adapter beside it.
        raise ConfigError(
            f"{_FIELD}: {name} is the output head, whose adapter would not be trained: the loss is "
            "computed from the head's own weights. Train it as a whole "
            f"(method.modules_to_save: [{last_part(name)}]) or rows of it "
            f"(method.trainable_tokens), and leave it out here. {there}"
        )
    if module is model.get_input_embeddings() and is_tied(model):
        raise ConfigError(
            f"{_FIELD}: {name} shares its weights with the output head (tie_word_embeddings), and "
            "an adapter would stand beside one of the two: merged, it would change both. Train "
            "rows of it (method.trainable_tokens), or method.kind: full, and leave it out here. "
            f"{there}"
        )
    if not _is_adaptable(module):
        raise ConfigError(
            f"{_FIELD}: {name} is a {type(module).__name__}, and adapters stand beside linear "
            f"layers and embeddings alone. {there}"
        )


def _adaptable(model: PreTrainedModel, whole: Sequence[str]) -> dict[str, nn.Module]:
    """Return the layers that may be named: those that `_refuse_unfit` has nothing against."""
    ends_of_model = [model.get_output_embeddings()]
    if is_tied(model):
        ends_of_model.append(model.get_input_embeddings())
    return {
        name: module
        for name, module in model.named_modules()
        if _is_adaptable(module) and name not in whole and module not in ends_of_model
    }


def check_rank(layers: Mapping[str, nn.Module], r: int) -> None:
    """Refuse a rank that is larger than a layer.

    Args:
        layers: From `find_targets`.
        r: Rank of each adapter.

    Raises:
        ConfigError: It is larger than the smaller side of one.
    """
    sizes = {name: _sides(layer) for name, layer in layers.items()}
    name = min(sizes, key=lambda each: min(sizes[each]), default=None)
    if name is not None and r > min(sizes[name]):
        width, height = sizes[name]
        raise ConfigError(
            f"method.r: {r} is larger than the smaller side of {name}, which is {width} x "
            f"{height}: an adapter of that rank is no smaller than the layer. Write at most "
            f"{min(sizes[name])}, or leave the layer out of method.target_modules."
        )


def _sides(layer: nn.Module) -> tuple[int, int]:
    # The weights of a 4-bit layer are packed, those of Conv1D and embeddings lie the other way.
    if hasattr(layer, "in_features"):
        return int(layer.in_features), int(layer.out_features)  # type: ignore[arg-type]
    width, height = layer.weight.shape  # type: ignore[misc]
    return int(width), int(height)


def _is_adaptable(module: nn.Module) -> bool:
    return isinstance(module, (*_LINEAR, nn.Embedding))
