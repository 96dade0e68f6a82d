"""Writing a model's weights shard by shard, as `save_pretrained` writes a model that is loaded."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from retune.machine import trim_heap
from retune.weights.stored_weights import Weights


class RoundedWeights(Mapping[str, torch.Tensor]):
    """Weights in another number type; what was asked for is remembered by its digest.

    Args:
        weights: In float32, by name.
        dtype: What they are rounded to.
    """

    def __init__(self, weights: Weights, dtype: torch.dtype) -> None:
        self._weights = weights
        self._dtype = dtype
        self.digests: dict[str, str] = {}
        """By name, of each weight that was given."""

    def __getitem__(self, name: str) -> torch.Tensor:
        """Round a weight."""
        # What the weights before it have left would be held beside the shard.
        trim_heap()
        weight = round_to(self._weights[name], self._dtype)
        self.digests[name] = digest_weight(weight)
        return weight

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._weights)

    def __len__(self) -> int:
        """Return how many weights there are."""
        return len(self._weights)


class HeldOver(Mapping[str, torch.Tensor]):
    """Weights of files, but for those that a model has values of.

    Args:
        model: A part of it has values, such as a head.
        weights: Of all others, by name.
    """

    def __init__(self, model: nn.Module, weights: Weights) -> None:
        self._weights = weights
        self._names = []
        self._held: dict[str, torch.Tensor] = {}
        for name, weight in model.named_parameters():
            self._names.append(name)
            if weight.device.type != "meta":
                self._held[name] = weight.data

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return a weight that is held, or read it."""
        return self._held[name] if name in self._held else self._weights[name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return how many weights there are."""
        return len(self._names)


def round_to(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a weight on the CPU in a number type; integers stay integers."""
    return weight.detach().to("cpu", dtype if weight.is_floating_point() else weight.dtype)


def digest_weight(weight: torch.Tensor) -> str:
    """Return the digest of a weight's bytes."""
    plain = weight.detach().contiguous().view(-1).view(torch.uint8)
    return hashlib.sha256(plain.numpy().data).hexdigest()


def save_streamed(
    model: PreTrainedModel,
    weights: Weights,
    target: Path,
    *,
    dtype: torch.dtype,
    max_shard_size: str,
) -> dict[str, str]:
    """Write a model whose weights are read one at a time; one shard of them is held.

    transformers writes it, as it writes a model with a part on the disk: names, files, ties and
    their index are those of `save_pretrained`.

    Args:
        model: Without values; it is changed.
        weights: By the model's names, of tied ones the first.
        target: The folder.
        dtype: What weights are rounded to.
        max_shard_size: Such as ``5GB``.

    Returns:
        The digest of each weight as it was handed over.

    Raises:
        RuntimeError: A weight is written in several parts, and these fell into different shards.
    """
    rounded = RoundedWeights(weights, dtype)
    model.to(dtype=dtype)
    model.config.dtype = dtype
    # What save_pretrained looks for in a model with a part on the disk.
    offloaded = cast(Any, model)
    offloaded.hf_device_map = {"": "disk"}
    offloaded._hf_hook = SimpleNamespace(weights_map=rounded)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Attempting to save a model with offloaded")
            model.save_pretrained(target, max_shard_size=max_shard_size)
    finally:
        del offloaded.hf_device_map, offloaded._hf_hook
    return rounded.digests


def emptied(model: nn.Module) -> None:
    """Take the values of all parameters from a model; tied ones stay tied."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for attribute, weight in module._parameters.items():
            if weight is None or weight.device.type == "meta":
                continue
            if id(weight) not in made:
                made[id(weight)] = nn.Parameter(weight.to("meta"), requires_grad=False)
            module._parameters[attribute] = made[id(weight)]
