"""Which device computes, and in which dtype."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]

_ON_CPU: ContextVar[bool] = ContextVar("retune_on_cpu", default=False)


@contextmanager
def computed_on_cpu(wanted: bool = True) -> Iterator[None]:
    """Let a block hold its models on the CPU, in the number type that they have on the accelerator.

    Args:
        wanted: False changes nothing.
    """
    token = _ON_CPU.set(wanted)
    try:
        yield
    finally:
        _ON_CPU.reset(token)


def choose_device() -> torch.device:
    """Return the accelerator that torch sees, else the CPU, as in `computed_on_cpu`."""
    return torch.device("cpu") if _ON_CPU.get() else _accelerator()


def _accelerator() -> torch.device:
    return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")


def choose_dtype(name: DtypeName, device: torch.device) -> torch.dtype:
    """Return the dtype that weights are loaded in.

    Args:
        name: A dtype's name; ``auto`` is bfloat16 on a GPU that has it, else float16, and float32
            on a CPU, where only float32 gives the same answer for every batch size.
        device: Where the model will run.

    Returns:
        The dtype.
    """
    device = _accelerator() if _ON_CPU.get() else device
    return pick_dtype(name, device.type, bfloat16=_has_bfloat16(device))


def pick_dtype(name: DtypeName, device: str, *, bfloat16: bool) -> torch.dtype:
    """Return what `choose_dtype` chooses on a device that this machine need not have.

    Args:
        name: As there.
        device: cpu or cuda.
        bfloat16: Whether it computes bfloat16.

    Returns:
        The dtype.
    """
    if name != "auto":
        return _by_name(name)
    return _half(bfloat16=bfloat16) if device == "cuda" else torch.float32


def choose_compute_dtype(name: DtypeName, device: torch.device) -> torch.dtype:
    """Return the dtype that training multiplies in.

    Args:
        name: A dtype's name; ``auto`` is bfloat16 where the device computes it natively, else
            float16 on a GPU and float32 on a CPU.
        device: Where the model will run.

    Returns:
        The dtype.
    """
    return pick_compute_dtype(name, device.type, bfloat16=_has_bfloat16(device))


def pick_compute_dtype(name: DtypeName, device: str, *, bfloat16: bool) -> torch.dtype:
    """Return what `choose_compute_dtype` chooses on a device that this machine need not have.

    Arguments and result as those of `pick_dtype`.
    """
    if name != "auto":
        return _by_name(name)
    if device == "cuda":
        return _half(bfloat16=bfloat16)
    # Without AVX512-BF16 a CPU emulates bfloat16 and is slower than in float32.
    return torch.bfloat16 if bfloat16 else torch.float32


def _half(*, bfloat16: bool) -> torch.dtype:
    return torch.bfloat16 if bfloat16 else torch.float16


def _has_bfloat16(device: torch.device) -> bool:
    if device.type != "cuda":
        return bool(torch.cpu._is_avx512_bf16_supported())
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported())


def _by_name(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype
