"""4-bit layers of bitsandbytes on a CPU."""

from __future__ import annotations

import torch


def use_plain_4bit_kernels(model: torch.nn.Module, compute_dtype: torch.dtype | None) -> None:
    """Keep bitsandbytes from repacking 4-bit layers on a CPU.

    On a CPU with AVX512-BF16, its first forward without gradients packs each layer into another
    format, and a later backward through it gives no gradient and no error.

    Args:
        model: Any model; only `Linear4bit` layers are touched.
        compute_dtype: What the layers multiply in; None leaves what the checkpoint says.
    """
    from bitsandbytes.nn import Linear4bit

    for layer in model.modules():
        if isinstance(layer, Linear4bit):
            layer.support_avx512bf16_for_cpu = False
            if compute_dtype is not None:
                layer.compute_dtype = compute_dtype
                layer.compute_type_is_set = True
