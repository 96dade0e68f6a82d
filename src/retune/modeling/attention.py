"""Which implementation of attention a model is trained with, by what is installed."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel
from transformers.utils import is_flash_attn_2_available

from retune.errors import ConfigError

_FLASH, _SDPA, _EAGER = "flash_attention_2", "sdpa", "eager"


def choose_attention(
    name: str, model_class: type[PreTrainedModel], *, dtype: torch.dtype, device: torch.device
) -> str:
    """Return the implementation of attention to train with.

    Args:
        name: As in the recipe. ``auto`` is flash_attention_2 where it is installed, the device is a
            GPU, the weights are in 16 bits and the family has it; else sdpa where the family has
            it; else eager.
        model_class: Of transformers.
        dtype: Of the weights.
        device: Where the model will run.

    Returns:
        A name that `from_pretrained` takes.

    Raises:
        ConfigError: The named one is not installed, or nothing for this family, dtype or device.
    """
    fault = _flash_fault(model_class, dtype, device)
    if name == "auto":
        return _FLASH if fault is None else _SDPA if model_class._supports_sdpa else _EAGER
    if name == _FLASH and fault is not None:
        raise ConfigError(
            f"model.attention: flash_attention_2 cannot be used: {fault}. Write auto."
        )
    if name == _SDPA and not model_class._supports_sdpa:
        raise ConfigError(
            f"model.attention: {model_class.__name__} has no sdpa attention. Write auto, or eager."
        )
    return name


def _flash_fault(
    model_class: type[PreTrainedModel], dtype: torch.dtype, device: torch.device
) -> str | None:
    # Families with a twist, such as gpt-oss' sinks, list the kernels that know it.
    known = getattr(model_class, "_compatible_flash_implementations", None)
    if not model_class._supports_flash_attn or (known and _FLASH not in known):
        return f"{model_class.__name__} does not have it"
    if device.type != "cuda":
        return f"it needs a GPU, and the model runs on {device.type}"
    if not is_flash_attn_2_available():
        return "the package flash-attn is not installed"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"it needs weights in 16 bits (model.dtype), and these are in {dtype}"
    return None
