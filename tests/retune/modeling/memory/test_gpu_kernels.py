"""Kernels past torch's dispatcher, while tensors without values are followed."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from retune.modeling.memory import gpu_kernels
from retune.modeling.memory.gpu_kernels import followed_kernels


def test_another_kernel_is_refused_before_its_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton as it launches: `kernel[grid](...)` calls `run` of the compiled function."""
    launched = []

    class JITFunction:
        def __init__(self, fn: object) -> None:
            self.fn = fn

        def run(self, *arguments: object) -> None:
            launched.append(arguments)

    def chunk_scan() -> None: ...

    jit = ModuleType("triton.runtime.jit")
    jit.JITFunction = JITFunction  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "triton.runtime.jit", jit)
    monkeypatch.setattr(gpu_kernels, "find_spec", lambda name: name == "triton")
    kernel = JITFunction(chunk_scan)

    with (
        pytest.raises(RuntimeError, match="chunk_scan cannot be run on tensors without"),
        followed_kernels("cuda"),
    ):
        kernel.run(1)
    assert not launched
    kernel.run(2)
    assert launched == [(2,)]
