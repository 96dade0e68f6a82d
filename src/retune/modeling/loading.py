"""Loading models, and keeping the last one while scoring stages use it one after the other."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel

from retune.data.tokenizers import Tokenizer, end_token_ids, load_tokenizer
from retune.errors import ConfigError
from retune.modeling.devices import choose_device, choose_dtype
from retune.records import ScoredModel

_MISSING_SHOWN = 5


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its tokenizer.

    Attributes:
        model: On its device, without gradients.
        tokenizer: The model's own.
        end_ids: Ids that end an answer.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    end_ids: list[int]


class ModelSlot:
    """Keeps the model that was asked for last; one device seldom holds two."""

    def __init__(self) -> None:
        self._digest: str | None = None
        self._loaded: LoadedModel | None = None

    def get(self, scored: ScoredModel) -> LoadedModel:
        """Return a model, loaded now or by the stage before.

        Args:
            scored: What to load; its digest says whether the model at hand is the same.

        Returns:
            The model in evaluation mode.

        Raises:
            ConfigError: The folder cannot be loaded as a causal language model.
        """
        if self._loaded is None or self._digest != scored.digest:
            self.clear()
            self._loaded, self._digest = load_scored_model(scored), scored.digest
        return self._loaded

    def clear(self) -> None:
        """Free the memory, before training for example."""
        self._loaded, self._digest = None, None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


SLOT = ModelSlot()
"""The process's one slot."""


def load_causal_model(
    folder: Path, *, dtype: torch.dtype, device: torch.device, **options: Any
) -> PreTrainedModel:
    """Load a snapshot folder as a causal language model.

    Args:
        folder: Plain or 4-bit snapshot.
        dtype: Of the weights that are not quantized.
        device: Where it goes.
        options: Passed to `from_pretrained`, such as `quantization_config`.

    Returns:
        The model in evaluation mode.

    Raises:
        ConfigError: transformers cannot load it, or would fill missing weights with random ones.
    """
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            device_map={"": device},
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"{folder}: cannot be loaded as a causal language model ({error})."
        ) from error
    missing = sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]]))
    if missing:
        raise ConfigError(
            f"{folder}: {len(missing)} weights are missing or have another shape, and transformers "
            f"would make them up at random: {', '.join(missing[:_MISSING_SHOWN])}. "
            "Save the whole model with save_pretrained."
        )
    use_plain_4bit_kernels(model, dtype if device.type == "cpu" else None)
    return cast(PreTrainedModel, model.eval())


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


def put_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Put a saved adapter on a model, whatever its method.

    Args:
        model: The base, as it was trained over or unquantized.
        folder: The adapter's folder.

    Returns:
        The adapted model in evaluation mode.
    """
    from peft import PeftModel

    return cast(PreTrainedModel, PeftModel.from_pretrained(model, folder).eval())


def load_scored_model(scored: ScoredModel) -> LoadedModel:
    """Load what a scorer is given: weights, the adapter over them if any, and the tokenizer."""
    device = choose_device()
    model = load_causal_model(scored.weights, dtype=choose_dtype("auto", device), device=device)
    if scored.adapter is not None:
        model = put_adapter(model, scored.adapter)
    tokenizer = load_tokenizer(scored.tokenizer)
    return LoadedModel(model, tokenizer, end_token_ids(tokenizer, scored.tokenizer))
