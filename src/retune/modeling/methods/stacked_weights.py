"""Weights of experts, which many families stack in one parameter with three dimensions.

Such a parameter belongs to no linear layer, so that `target_modules` cannot name it. peft adapts it
by itself, with one pair of matrices for each expert.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from retune.errors import ConfigError
from retune.modeling.methods.module_names import ends

_DIMENSIONS = 3
_UP_TO_BLOCK = re.compile(r"^.*?\.\d+\.")


def check_stacked(
    model: PreTrainedModel, names: Sequence[str] | None, *, r: int, whole: Sequence[str]
) -> None:
    """Refuse names of stacked weights that cannot be adapted.

    Args:
        model: The model to adapt.
        names: Ends of names of parameters, as in the recipe.
        r: Rank of the adapter of each expert.
        whole: Names of the modules that are trained as a whole.

    Raises:
        ConfigError: A name matches nothing, the rank is larger than a weight, or a weight belongs
            to a module that is trained as a whole; the message says what there is.
    """
    if not names:
        return
    there = list_stacked(model)
    unknown = [each for each in names if not any(ends(name, each) for name in there)]
    if unknown:
        raise ConfigError(
            f"method.target_parameters: {', '.join(unknown)} match no stacked weights of this "
            f"model. {_describe(there)}"
        )
    wanted = {name: w for name, w in there.items() if any(ends(name, each) for each in names)}
    _check_rank(wanted, r)
    both = [name for name in wanted if any(f"{name}.".startswith(f"{each}.") for each in whole)]
    if both:
        raise ConfigError(
            f"method.target_parameters: {both[0]} belongs to a module of method.modules_to_save, "
            "which is trained as a whole. Take it out of one of the two."
        )


def list_stacked(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights with three dimensions that no layer of torch holds.

    Args:
        model: Before it is adapted. A convolution has three dimensions too, and is no expert.
    """
    return {
        f"{path}.{name}": weight
        for path, module in model.named_modules()
        if not type(module).__module__.startswith("torch.")
        for name, weight in module.named_parameters(recurse=False)
        if weight.ndim == _DIMENSIONS and weight.is_floating_point()
    }


def _check_rank(wanted: Mapping[str, torch.Tensor], r: int) -> None:
    name = min(wanted, key=lambda each: min(wanted[each].shape[1:]))
    experts, rows, columns = wanted[name].shape
    if r > min(rows, columns):
        raise ConfigError(
            f"method.r: {r} is larger than the smaller side of {name}, which is {rows} x "
            f"{columns} for each of {experts} experts. Write at most {min(rows, columns)}, or "
            "leave it out of method.target_parameters."
        )


def _describe(there: Mapping[str, torch.Tensor]) -> str:
    if not there:
        return (
            "It has none: no parameter with three dimensions, as experts are stored. Remove the "
            "key, and name layers in method.target_modules."
        )
    one = next(iter(there))
    numbered = re.search(r"\d+\..*$", one)
    return (
        f"It has: {', '.join(sorted({_UP_TO_BLOCK.sub('', name) for name in there}))}; the number "
        f"of a block before a name adapts that block alone, such as "
        f"{numbered.group() if numbered else one}."
    )
