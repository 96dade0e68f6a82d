"""The weights of a base with an adapter merged into them, each computed when it is asked for.

peft itself merges, one of its layers at a time: the layer gets its base's weights as float32, adds
what was learned with a check for finite numbers, and forgets both. So the sum is the one that
`merge_and_unload` of the whole model would make, bit for bit, and no more is held than one layer
and the adapter.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel

from retune.modeling.head_files import HEAD_WEIGHTS
from retune.modeling.methods.adapter_folders import read_settings
from retune.modeling.methods.saved_adapters import WEIGHTS, check_names, read_config
from retune.weights.lent_weights import Names, Slot, find_slots, lend
from retune.weights.stored_weights import Weights

_CPU = torch.device("cpu")
_KEEPING = (True, False, "gaussian", "orthogonal", "mica")
"""First values of an adapter that leave the base as it is; others are not merged layer by layer."""
_ADAPTER = "default"


class NotStreamed(Exception):
    """An adapter cannot be merged layer by layer; the message says why."""


def why_not_streamed(folder: Path) -> str | None:
    """Say why an adapter cannot be merged layer by layer.

    Args:
        folder: The adapter's folder.

    Returns:
        The reason; None where it can, as a head alone always can.
    """
    if (folder / HEAD_WEIGHTS).is_file():
        return None
    settings = read_settings(folder)
    if settings.get("peft_type") != "LORA":
        return f"it is of kind {settings.get('peft_type')}"
    init = settings.get("init_lora_weights", True)
    if init not in _KEEPING:
        return f"its first values ({init}) were taken out of the base, which peft does as a whole"
    if settings.get("layer_replication"):
        return "it repeats layers of the base (layer_replication)"
    return None


def put_adapter_unfilled(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Put an adapter on a model without values: the adapter has its own, the base has none.

    Args:
        model: On the meta device.
        folder: The adapter's folder.

    Returns:
        The adapted model in evaluation mode.

    Raises:
        ConfigError: Its weights are not those that the adapter has on this model.
    """
    base = {id(weight) for weight in model.parameters()}
    config: Any = read_config(folder)
    # Without values there is nothing to take first values from; their shapes are the same.
    config.init_lora_weights = True
    with warnings.catch_warnings():
        # Loaded below, where there are values to load into.
        warnings.filterwarnings("ignore", message="for .*copying from a non-meta parameter")
        adapted = PeftModel.from_pretrained(model, folder, config=config)
    check_names(adapted, folder)
    saved = _saved_names(folder)
    # Some weights of the base are saved with an adapter: biases, a grown embedding.
    named = adapted.named_parameters(remove_duplicate=False)
    base -= {id(weight) for name, weight in named if name in saved}
    made: dict[int, nn.Parameter] = {}
    for module in adapted.modules():
        for attribute, weight in module._parameters.items():
            if weight is None or weight.device.type != "meta" or id(weight) in base:
                continue
            if id(weight) not in made:
                value = torch.empty_like(weight, device=_CPU)
                made[id(weight)] = nn.Parameter(value, requires_grad=False)
            module._parameters[attribute] = made[id(weight)]
    adapted.load_adapter(str(folder), _ADAPTER, torch_device="cpu")
    return adapted.eval()


def _saved_names(folder: Path) -> set[str]:
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, "pt") as file:
        return {*file.keys()}


@dataclass
class _Unit:
    """Layers of peft that are merged together: one, or those that share a weight.

    Attributes:
        layers: By the place that they have in the model.
        slots: The base's weights in them.
    """

    layers: dict[str, nn.Module]
    slots: list[Slot]


class MergedWeights(Mapping[str, torch.Tensor]):
    """The merged weights of an adapted model by the names of the plain one, in float32 on the CPU.

    Args:
        adapted: From `put_adapter_unfilled`.
        names: What the plain model calls its parameters; see `Names`.
        base: The base's weights.

    Raises:
        ValueError: peft refuses to merge; asking for a weight raises it where one is not finite.
        NotStreamed: The plain model would have other ties than the base.
    """

    def __init__(self, adapted: PeftModel, names: Names, base: Weights) -> None:
        tuner: Any = adapted.base_model
        tuner._check_merge_allowed()
        self._base = base
        layers = _find_layers(tuner.model)
        plain = _plain_parameters(tuner.model, layers)
        _refuse_untied(plain, names)
        self._held = {
            name: weight for name, weight in plain.items() if weight.device.type != "meta"
        }
        self._names = names.canonical()
        self._units: dict[str, _Unit] = {}
        for unit in _join(layers, find_slots(adapted, names)):
            inner = [f"{path}.{own}" for path, layer in unit.layers.items() for own in _own(layer)]
            self._units |= {names.of[name]: unit for name in inner}
        self._last: tuple[_Unit, dict[str, torch.Tensor]] | None = None
        self._of = names.of

    def __getitem__(self, name: str) -> torch.Tensor:
        """Merge the layer that a weight belongs to; the last one is remembered."""
        unit = self._units.get(name)
        if unit is None:
            return self._held[name].data if name in self._held else self._base[name]
        if self._last is None or self._last[0] is not unit:
            self._last = None
            merged = _merge(unit, self._base)
            self._last = (unit, {self._of[each]: weight for each, weight in merged.items()})
        return self._last[1][name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return how many weights there are."""
        return len(self._names)


def _find_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return what peft merges or unwraps, by its place; not what lies within another such layer."""
    tuners = {n for n, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            above = [name[:end] for end, letter in enumerate(name) if letter == "."]
            if not any(each in tuners or each in found for each in above):
                found[name] = module
    return found


def _unwrap(layer: Any, *, merge: bool = False) -> nn.Module:
    """Return what peft leaves of a layer, as its `merge_and_unload` does."""
    inner: nn.Module
    if hasattr(layer, "unload_and_optionally_merge_module"):
        inner = layer.unload_and_optionally_merge_module(
            merge=merge, safe_merge=True, adapter_names=None
        )
        return inner
    if merge:
        layer.merge(safe_merge=True, adapter_names=None)
    inner = layer.get_base_layer()
    return inner


def _own(layer: nn.Module) -> list[str]:
    return [name for name, _ in _unwrap(layer).named_parameters(remove_duplicate=False)]


def _plain_parameters(model: nn.Module, layers: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Return the parameters that a model will have once all is unwrapped, by their names then."""
    within = tuple(f"{path}." for path in layers)
    found = {
        name: weight
        for name, weight in model.named_parameters(remove_duplicate=False)
        if not name.startswith(within)
    }
    for path, layer in layers.items():
        for name, weight in _unwrap(layer).named_parameters(remove_duplicate=False):
            found[f"{path}.{name}"] = weight
    return found


def _refuse_untied(plain: Mapping[str, nn.Parameter], names: Names) -> None:
    for name, first in names.of.items():
        if plain[name] is not plain[first]:
            raise NotStreamed(f"{name} and {first} are one weight of the base, and two of it")


def _join(layers: Mapping[str, nn.Module], slots: list[Slot]) -> list[_Unit]:
    """Put layers that share a weight of the base into one unit."""
    units: list[_Unit] = []
    for path, layer in layers.items():
        # What is trained as a whole stands for the base's weights, which are not read.
        whole = isinstance(layer, ModulesToSaveWrapper)
        inside = set() if whole else {id(module) for module in layer.modules()}
        unit = _Unit({path: layer}, [slot for slot in slots if id(slot.module) in inside])
        shared = {slot.name for slot in unit.slots}
        for other in [each for each in units if shared & {slot.name for slot in each.slots}]:
            units.remove(other)
            unit = _Unit(other.layers | unit.layers, [*other.slots, *unit.slots])
        units.append(unit)
    return units


def _merge(unit: _Unit, base: Weights) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    with torch.no_grad(), _restored(unit):
        lend(unit.slots, base, _CPU)
        for path, layer in unit.layers.items():
            inner = _unwrap(layer, merge=True)
            for name, weight in inner.named_parameters(remove_duplicate=False):
                found[f"{path}.{name}"] = weight.data
    return found


@contextmanager
def _restored(unit: _Unit) -> Iterator[None]:
    """Let a unit be merged again: afterwards it is as it was."""
    kept = [(each, each.data) for layer in unit.layers.values() for each in layer.parameters()]
    try:
        yield
    finally:
        for slot in unit.slots:
            slot.clear()
        for weight, data in kept:
            weight.data = data
        for layer in unit.layers.values():
            for module in layer.modules():
                if isinstance(module, BaseTunerLayer):
                    module.merged_adapters.clear()
