"""4-bit layers of bitsandbytes: their settings, and their kernels on a CPU."""

from __future__ import annotations

import torch
from transformers import BitsAndBytesConfig


def as_bitsandbytes(
    *, double: bool, compute_dtype: torch.dtype, storage_dtype: torch.dtype
) -> BitsAndBytesConfig:
    """Return bitsandbytes' form of the quantization settings.

    Args:
        double: Whether the quantization constants are quantized too.
        compute_dtype: What the layers multiply in.
        storage_dtype: What the packed weights are stored as; uint8 is the default of the library.

    Returns:
        A 4-bit NormalFloat configuration.
    """
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=compute_dtype,
        bnb_4bit_quant_storage=storage_dtype,
    )


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
