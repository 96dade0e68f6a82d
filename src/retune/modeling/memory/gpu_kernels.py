"""Kernels that are launched past torch's dispatcher, while tensors without values are followed.

A Triton kernel takes the addresses of its tensors. Those of fake tensors are none: the GPU faults,
and the process can use it no more. TRL's loss is such a kernel; what it writes was made before,
and it holds nothing else, so that it is passed over. Any other one is refused before its launch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, NoReturn

import trl.kernels.chunked_logprob as loss_kernels

from retune.machine import DeviceName

_MISSING = object()


class _NothingHeld:
    """Stands for a kernel that writes into tensors it was given: ``kernel[grid](...)``."""

    def __getitem__(self, grid: object) -> Callable[..., None]:
        return _do_nothing


def _do_nothing(*_: object, **__: object) -> None:
    pass


def _refuse(kernel: Any, *_: object, **__: object) -> NoReturn:
    name = getattr(getattr(kernel, "fn", None), "__name__", "of this model")
    raise RuntimeError(f"the Triton kernel {name} cannot be run on tensors without values")


@contextmanager
def followed_kernels(device: DeviceName = "cpu") -> Iterator[None]:
    """Let work on fake tensors hold what it holds on a device, and never reach that device.

    Args:
        device: Whose kernels are meant. For a GPU that this machine does not have, too.

    Raises:
        RuntimeError: In the block, where a kernel is launched that is not known here.
    """
    with ExitStack() as put:
        if device == "cuda":
            for name in ("_forward_kernel", "_backward_kernel"):
                put.enter_context(_exchanged(loss_kernels, name, _NothingHeld()))
            put.enter_context(_exchanged(loss_kernels, "_use_triton", lambda _: True))
            # Asked for the grid, and no name of that module where Triton is not installed.
            put.enter_context(_exchanged(loss_kernels, "triton", SimpleNamespace(cdiv=max)))
            # Multiplied and added in place, in an operation whose shapes torch cannot follow.
            put.enter_context(_exchanged(loss_kernels, "_addmm_fp32", _do_nothing))
        if find_spec("triton") is not None:
            jit = importlib.import_module("triton.runtime.jit")
            put.enter_context(_exchanged(jit.JITFunction, "run", _refuse))
        yield


@contextmanager
def _exchanged(owner: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name, _MISSING)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is _MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
