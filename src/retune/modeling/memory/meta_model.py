"""A model without its weights: the shapes, dtypes and layers of a training, on no memory.

A meta model is built from a snapshot's configuration on torch's meta device. Its tensors are then
exchanged for fake ones, which say that they are on the device of the training: autocast and the
choice of attention look at that, and run as they would there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from bitsandbytes.nn import Linear4bit
from peft.tuners.lora import dora
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from retune.errors import ConfigError

UNBUILDABLE = (
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    ZeroDivisionError,
)
"""What torch and transformers raise for sizes and ids of a `config.json` that cannot be."""
_BLOCK = 64
"""Weights that share one scale factor in bitsandbytes' 4-bit form."""
_DOUBLE_BLOCK = 256
"""Scale factors that share one of their own when they are quantized too."""
_CODE = 256
"""Entries of the table that quantized scale factors are looked up in."""


def build_meta_model(
    folder: Path,
    *,
    dtype: torch.dtype,
    attention: str = "auto",
    quantized: bool = False,
    double: bool = True,
    compute_dtype: torch.dtype = torch.float32,
    auto: Any = AutoModelForCausalLM,
) -> PreTrainedModel:
    """Build a model on the meta device, from its configuration alone.

    Args:
        folder: Holds `config.json`; weights need not be there.
        dtype: Of the weights that are not quantized.
        attention: As in the recipe; ``auto`` is what transformers takes.
        quantized: Whether linear layers are in 4 bits.
        double: Whether their scale factors are quantized too.
        compute_dtype: What 4-bit layers multiply in.
        auto: Auto class of transformers for what the model is to do.

    Returns:
        The model in training mode; of an image-text model the text part.

    Raises:
        ConfigError: transformers cannot build such a model from the configuration.
    """
    options = {} if attention == "auto" else {"attn_implementation": attention}
    what = "causal language model" if auto is AutoModelForCausalLM else "text classifier"
    try:
        config = _text_config(AutoConfig.from_pretrained(folder, local_files_only=True))
        with torch.device("meta"):
            model = auto.from_config(config, dtype=dtype, **options)
    except UNBUILDABLE as error:
        raise ConfigError(
            f"{folder}: no {what} can be built from its config.json ({error or 'no reason given'})"
            f".{_hint(folder)}"
        ) from error
    if quantized:
        _quantize(model, double=double, compute_dtype=compute_dtype)
    return cast(PreTrainedModel, model.train())


def _hint(folder: Path) -> str:
    """Name a padding token without a row, which torch refuses without saying which it is."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
    except UNBUILDABLE:
        # It could not be read at all, which is what the message says already.
        return ""
    pad, rows = getattr(config, "pad_token_id", None), getattr(config, "vocab_size", None)
    if not isinstance(pad, int) or not isinstance(rows, int) or not 0 < rows <= pad:
        return ""
    return (
        f" Its pad_token_id is {pad}, and vocab_size {rows:,}: the last id is {rows - 1:,}. Give "
        "the model a row for it (model.resize_token_embeddings(len(tokenizer)), then "
        "save_pretrained), or write the id of another token."
    )


def _text_config(config: PretrainedConfig) -> PretrainedConfig:
    # A checkpoint's own quantization would be of no use here: weights are counted by `quantized`.
    text = config.get_text_config()
    if hasattr(text, "quantization_config"):
        del text.quantization_config
    return text


class Meta4bit(Linear4bit):
    """A 4-bit layer that takes bitsandbytes' memory and computes nothing of use.

    Args:
        layer: The layer on the meta device that it stands for.
        double: Whether its scale factors are quantized too.
        compute_dtype: What it multiplies in.
    """

    def __init__(self, layer: nn.Module, *, double: bool, compute_dtype: torch.dtype) -> None:
        width, height = _sides(layer)
        bias = layer.bias if isinstance(layer.bias, torch.Tensor) else None
        super().__init__(width, height, bias=False, compute_dtype=compute_dtype, device="meta")
        count = width * height
        packed = torch.empty(((count + 1) // 2, 1), dtype=torch.uint8, device="meta")
        self.weight = nn.Parameter(packed, requires_grad=False)
        # peft asks these of a 4-bit weight.
        self.weight.compress_statistics = double  # type: ignore[attr-defined]
        self.weight.quant_type = "nf4"  # type: ignore[attr-defined]
        self.bias = bias
        scales = -(-count // _BLOCK)
        for name, size, dtype in _scale_tensors(scales, double):
            self.register_buffer(name, torch.empty(size, dtype=dtype, device="meta"))
        self._double = double

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply as bitsandbytes does: unpack the weights, use them, forget them."""
        given = x.dtype
        x = x.to(self.compute_dtype)
        bias = None if self.bias is None else self.bias.to(self.compute_dtype)
        shape = (self.out_features, self.in_features)
        found = _Unpacked.apply(x, self.weight, bias, self.scales, shape, self._double)
        return cast(torch.Tensor, found.to(given))


_read_weights = dora.dequantize_module_weight


def _unpacked_weights(module: nn.Module) -> torch.Tensor:
    """Return weights as peft's DoRA asks a layer for them, of a meta model without values."""
    if isinstance(module, Meta4bit):
        shape = (module.out_features, module.in_features)
        return module.weight.new_empty(shape, dtype=module.compute_dtype)
    return cast(torch.Tensor, _read_weights(module))


# peft unpacks by the weight's own class, which a weight without memory cannot have.
dora.dequantize_module_weight = _unpacked_weights


class _Unpacked(torch.autograd.Function):
    """Weights are unpacked anew in the backward pass: nothing of their full size is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        packed: torch.Tensor,
        bias: torch.Tensor | None,
        scales: torch.Tensor,
        shape: tuple[int, int],
        double: bool,
    ) -> torch.Tensor:
        ctx.save_for_backward(packed, scales)
        ctx.shape, ctx.double = shape, double
        return nn.functional.linear(x, _unpack(x, scales, shape, double), bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        _, scales = ctx.saved_tensors
        weight = _unpack(gradient, scales, ctx.shape, ctx.double)
        return gradient @ weight, None, None, None, None, None


def _unpack(
    like: torch.Tensor, scales: torch.Tensor, shape: tuple[int, int], double: bool
) -> torch.Tensor:
    # The scale factors are unpacked to float32 first, and live until the weights are there.
    unpacked = like.new_empty(scales.shape, dtype=torch.float32) if double else scales
    weight = like.new_empty(shape)
    del unpacked
    return weight


def _scale_tensors(scales: int, double: bool) -> list[tuple[str, int, torch.dtype]]:
    if not double:
        return [("scales", scales, torch.float32), ("code", 16, torch.float32)]
    return [
        ("scales", scales, torch.uint8),
        ("scales_of_scales", -(-scales // _DOUBLE_BLOCK), torch.float32),
        ("code", 16 + _CODE, torch.float32),
        ("offset", 1, torch.float32),
    ]


def _quantize(model: PreTrainedModel, *, double: bool, compute_dtype: torch.dtype) -> None:
    """Exchange the layers that transformers would quantize: all linear ones but the head."""
    head = model.get_output_embeddings()
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear | Conv1D) and layer is not head:
            parent, _, own = name.rpartition(".")
            stand_in = Meta4bit(layer, double=double, compute_dtype=compute_dtype)
            setattr(model.get_submodule(parent), own, stand_in)
    # What peft and apply_method look at.
    model.is_loaded_in_4bit = True
    model.is_quantized = True
    model.quantization_method = "bitsandbytes"


def _sides(layer: nn.Module) -> tuple[int, int]:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    # Conv1D keeps its weights transposed.
    width, height = cast(torch.Tensor, layer.weight).shape
    return int(width), int(height)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the trained parameters and all of them; a 4-bit weight counts as one."""
    packed = {
        id(layer.weight): layer.in_features * layer.out_features
        for layer in model.modules()
        if isinstance(layer, Meta4bit)
    }
    weights = list(model.parameters())
    total = sum(packed.get(id(weight), weight.numel()) for weight in weights)
    return sum(weight.numel() for weight in weights if weight.requires_grad), total


def make_fake(model: nn.Module, mode: FakeTensorMode, device: torch.device) -> None:
    """Exchange a meta model's tensors for fake ones on a device; what was shared stays so.

    Args:
        model: On the meta device; it is changed.
        mode: What the fake tensors belong to.
        device: Where they say they are.
    """
    made: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    # The old one is kept beside the new one, so that its id stays its own.
                    made[id(tensor)] = (_fake(tensor, mode, device), tensor)
                held[name] = made[id(tensor)][0]  # type: ignore[assignment]


def _fake(tensor: torch.Tensor, mode: FakeTensorMode, device: torch.device) -> torch.Tensor:
    meta = tensor.detach().to("meta")
    fake = mode.fake_tensor_converter.from_meta_and_device(mode, meta, device)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(fake, requires_grad=tensor.requires_grad)
    return fake
