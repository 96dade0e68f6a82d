"""Weights that a model without values is given for a while: all of them, or layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel

from retune.errors import StageError
from retune.machine import trim_heap
from retune.weights.stored_weights import Weights


@dataclass(frozen=True)
class Slot:
    """Where a weight belongs in a model.

    Attributes:
        module: That holds it.
        attribute: What it is called there.
        empty: The parameter without values.
        name: What the weight is called in the model before anything was put on it.
    """

    module: nn.Module
    attribute: str
    empty: nn.Parameter
    name: str

    def fill(self, weight: nn.Parameter) -> None:
        """Put a weight in its place."""
        if weight.shape != self.empty.shape:
            raise StageError(
                f"{self.name}: is {tuple(weight.shape)} in the files, and "
                f"{tuple(self.empty.shape)} in the model that config.json describes. Take both "
                "from the same release."
            )
        self.module._parameters[self.attribute] = weight

    def clear(self) -> None:
        """Put the parameter without values back."""
        self.module._parameters[self.attribute] = self.empty


class Names:
    """What a model calls its parameters, before anything is put on it.

    Attributes:
        of: For each name the first one of the same parameter: tied weights have several.
    """

    def __init__(self, model: nn.Module) -> None:
        # The parameters are kept, so that the identity of each stays its own.
        self._parameters = dict(model.named_parameters())
        self._first = {id(weight): name for name, weight in self._parameters.items()}
        every = model.named_parameters(remove_duplicate=False)
        self.of = {name: self._first[id(weight)] for name, weight in every}

    def canonical(self) -> list[str]:
        """Return the first name of each parameter."""
        return list(self._parameters)

    def find(self, weight: nn.Parameter) -> str | None:
        """Return the first name of a parameter; None where the model did not have it."""
        return self._first.get(id(weight))


def find_slots(model: nn.Module, names: Names) -> list[Slot]:
    """Return where weights are missing.

    Args:
        model: What was put on it may be there; it has values of its own.
        names: Of the model before anything was put on it.

    Returns:
        The slots, in the order of the modules; tied weights have two with one name.
    """
    return [
        Slot(module, attribute, weight, name)
        for module in model.modules()
        for attribute, weight in module._parameters.items()
        if weight is not None and weight.device.type == "meta" and (name := names.find(weight))
    ]


def lend(slots: Iterable[Slot], weights: Weights, device: torch.device) -> None:
    """Give a model the weights of its slots; tied ones stay one.

    Args:
        slots: From `find_slots`.
        weights: By name.
        device: Where they go.
    """
    # What was lent before would be held beside these.
    trim_heap()
    made: dict[str, nn.Parameter] = {}
    for slot in slots:
        if slot.name not in made:
            value = weights[slot.name].to(device)
            made[slot.name] = nn.Parameter(value, requires_grad=False)
        slot.fill(made[slot.name])


@contextmanager
def lent_whole(
    model: PreTrainedModel, slots: list[Slot], weights: Weights, device: torch.device
) -> Iterator[None]:
    """Hold all weights on a device inside the block."""
    lend(slots, weights, device)
    _move(model, device)
    try:
        yield
    finally:
        for slot in slots:
            slot.clear()
        _move(model, torch.device("cpu"))


@contextmanager
def lent_by_layer(
    model: PreTrainedModel, slots: list[Slot], weights: Weights, device: torch.device
) -> Iterator[None]:
    """Hold weights on a device for the forward pass of one layer at a time inside the block.

    Args:
        model: Adapted or not; what is put on it is on the device all the time.
        slots: Its empty ones.
        weights: By name; each layer's are asked for in every forward pass.
        device: That computes.
    """
    _move(model, device)
    layers = _find_layers(model, {id(slot.module) for slot in slots})
    for layer in layers:
        own = {id(module) for module in layer.modules()}
        hook = _Lend(layer, [each for each in slots if id(each.module) in own], weights, device)
        add_hook_to_module(layer, hook)
    inner = cast(PreTrainedModel, getattr(model, "get_base_model", lambda: model)())
    kind = type(inner)
    # Who asks a model for its device means where it computes; its weights are nowhere between.
    inner.__class__ = type(kind.__name__, (kind,), {"device": property(lambda _: device)})
    try:
        yield
    finally:
        inner.__class__ = kind
        for layer in layers:
            remove_hook_from_module(layer)
        _move(model, torch.device("cpu"))


class _Lend(ModelHook):
    """Gives a layer its weights before its forward pass, and takes them back behind it."""

    def __init__(
        self, layer: nn.Module, slots: list[Slot], weights: Weights, device: torch.device
    ) -> None:
        self._layer = layer
        self._slots = slots
        self._weights = weights
        self._device = device

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        # What is trained as a whole stands for the base's weights, which are not looked at.
        if not isinstance(self._layer, ModulesToSaveWrapper) or self._layer.disable_adapters:
            lend(self._slots, self._weights, self._device)
        return args, kwargs

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        for slot in self._slots:
            slot.clear()
        return output


def _find_layers(model: nn.Module, owners: set[int]) -> list[nn.Module]:
    """Return the modules that get their weights at once: whole blocks, and what is beside them."""
    blocks = set(getattr(model, "_no_split_modules", None) or ())
    found: list[nn.Module] = []
    ahead = [model]
    while ahead:
        module = ahead.pop()
        if _is_whole(module, blocks) or id(module) in owners:
            found.append(module)
        else:
            ahead += module.children()
    return found


def _is_whole(module: nn.Module, blocks: set[str]) -> bool:
    adapted = isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
    return adapted or type(module).__name__ in blocks


def _move(model: nn.Module, device: torch.device) -> None:
    """Move what a model has values of."""
    for module in model.modules():
        for weight in module._parameters.values():
            if weight is not None and weight.device.type != "meta":
                weight.data = weight.data.to(device)
        for attribute, buffer in module._buffers.items():
            if buffer is not None and buffer.device.type != "meta":
                module._buffers[attribute] = buffer.to(device)
