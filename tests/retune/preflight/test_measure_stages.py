"""What the stages around a training are counted to hold, against what torch allocates."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from bitsandbytes.functional import quantize_4bit
from torch import nn
from torch.profiler import ProfilerActivity, profile

from retune.machine import Device
from retune.modeling.memory.meta_model import Meta4bit
from retune.preflight.measure_stages import _quantizing

CPU = Device(name="cpu", bfloat16=False)


def model(*sides: tuple[int, int]) -> nn.Module:
    """Layers in 4 bits, without values."""
    layers = [nn.Linear(*each, bias=False, device="meta") for each in sides]
    options = {"double": True, "compute_dtype": torch.float32}
    return nn.Sequential(*(Meta4bit(layer, **options) for layer in layers))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_holds_while_it_is_quantized_what_is_counted(dtype: torch.dtype) -> None:
    """Reference: torch's own record of what bitsandbytes has it allocate and free.

    Beside it stand the weights themselves; scale factors, a 64th as many, are not counted.
    """
    weight = torch.randn(512, 1024, dtype=dtype)
    quantize_4bit(weight, quant_type="nf4", compress_statistics=True)  # what is made once
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    events = record.profiler.kineto_results.events()
    changes = [event.nbytes() for event in events if event.name() == "[memory]"]
    held = max(accumulate(changes)) + weight.nbytes
    assert _quantizing(model((1024, 512), (64, 64)), dtype, CPU) == pytest.approx(held, rel=0.02)


def test_a_gpu_holds_a_layer_and_its_result() -> None:
    """1,024 x 512 weights of 2 bytes, and half a byte each."""
    gpu = Device(name="cuda", bfloat16=True, present=False)
    assert _quantizing(model((1024, 512), (64, 64)), torch.bfloat16, gpu) == 1024 * 512 * 5 // 2
