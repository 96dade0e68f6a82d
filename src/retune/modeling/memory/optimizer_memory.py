"""What optimizers keep of each weight, for those that cannot run on fake tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_SMALL = 4096
"""bitsandbytes keeps the states of smaller tensors in float32."""
_BLOCK = 256
"""Values that share one scale factor in 8-bit states."""
_STATES = {"adam": 2, "adamw": 2, "ademamix": 3, "lion": 1, "rmsprop": 1}


def is_bitsandbytes(name: str) -> bool:
    """Say whether an optimizer of this name (`optim`) is one of bitsandbytes."""
    return "8bit" in name or "bnb" in name or name.startswith("paged_")


def bitsandbytes_states(name: str, weights: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Make tensors of the size of the states that bitsandbytes would make.

    Args:
        name: Of the optimizer, as transformers knows it.
        weights: What is trained.

    Returns:
        The states; pages that a paged optimizer moves to the host's memory are among them, since
        it does so only when the device is full.
    """
    family = next((f for f in sorted(_STATES, key=len, reverse=True) if f in name), "adamw")
    made: list[torch.Tensor] = []
    for weight in weights:
        for _ in range(_STATES[family]):
            made += _one_state(weight, eight_bit="8bit" in name)
    return made


def _one_state(weight: torch.Tensor, *, eight_bit: bool) -> list[torch.Tensor]:
    if not eight_bit or weight.numel() < _SMALL:
        return [torch.empty_like(weight, dtype=torch.float32)]
    blocks = -(-weight.numel() // _BLOCK)
    return [
        torch.empty_like(weight, dtype=torch.uint8),
        weight.new_empty(blocks, dtype=torch.float32),
    ]
