"""Loading models, and keeping the last one while scoring stages use it one after the other."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from retune.data.chats.tokenizers import Tokenizer, end_token_ids, load_tokenizer
from retune.errors import ConfigError
from retune.modeling.architectures import dequantized, open_snapshot
from retune.modeling.devices import choose_device, choose_dtype
from retune.modeling.four_bit import use_plain_4bit_kernels
from retune.modeling.head_files import HEAD_WEIGHTS, read_labels
from retune.modeling.heads import add_head, load_classifier, put_head
from retune.modeling.weights import refuse_wrong
from retune.records import ScoredModel


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its tokenizer.

    Attributes:
        model: On its device, without gradients.
        tokenizer: The model's own.
        end_ids: Ids that end an answer.
        labels: Names of the classes of a model with a head, in the order of its figures; None where
            it writes.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    end_ids: list[int]
    labels: tuple[str, ...] | None = None


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

    Of an image-text model the text part alone is loaded; MXFP4 weights are dequantized.

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
        model, found = open_snapshot(folder, dtype=dtype, device=device, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"{folder}: cannot be loaded as a causal language model ({error})."
        ) from error
    refuse_wrong(folder, found)
    use_plain_4bit_kernels(model, dtype if device.type == "cpu" else None)
    return model.eval()


def load_plain_model(folder: Path, *, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Load a snapshot folder as what adapters are merged into: a model without quantized weights.

    Args:
        folder: A snapshot; the weights of a quantized one become the values that they stand for.
        dtype: Of the weights.
        device: Where it goes.

    Returns:
        The model in evaluation mode.

    Raises:
        ConfigError: As `load_causal_model`.
    """
    model = dequantized(load_causal_model(folder, dtype=dtype, device=device))
    return cast(PreTrainedModel, model.to(dtype=dtype)).eval()


def put_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Put a saved adapter on a model, whatever its method.

    Args:
        model: The base, as it was trained over or unquantized.
        folder: The adapter's folder.

    Returns:
        The adapted model in evaluation mode.

    Raises:
        ConfigError: Its weights are not those that the adapter has on this model.
    """
    from retune.modeling.methods.saved_adapters import put_saved

    return cast(PreTrainedModel, put_saved(model, folder))


def load_scored_model(scored: ScoredModel) -> LoadedModel:
    """Load what a scorer is given: weights, the adapter over them if any, and the tokenizer.

    Args:
        scored: Where the parts lie; they say themselves whether the model has a head.

    Returns:
        The model in evaluation mode.

    Raises:
        ConfigError: A part cannot be loaded, or an adapter does not fit.
    """
    device = choose_device()
    tokenizer = load_tokenizer(scored.tokenizer)
    return load_parts(
        scored.weights,
        scored.adapter,
        tokenizer=tokenizer,
        end_ids=end_token_ids(tokenizer, scored.tokenizer),
        dtype=choose_dtype("auto", device),
        device=device,
    )


def load_parts(
    weights: Path,
    adapter: Path | None,
    *,
    tokenizer: Tokenizer,
    end_ids: list[int],
    dtype: torch.dtype,
    device: torch.device,
    plain: bool = False,
) -> LoadedModel:
    """Load weights, and what is put over them; they say themselves whether there is a head.

    Args:
        weights: A snapshot.
        adapter: An adapter of any method, or a head that was trained alone; None where the
            snapshot is the whole model.
        tokenizer: The model's own.
        end_ids: Ids that end an answer.
        dtype: Of the weights that are not quantized.
        device: Where it goes.
        plain: Whether quantized weights become the values that they stand for, before anything is
            put over them.

    Returns:
        The model in evaluation mode.

    Raises:
        ConfigError: A part cannot be loaded, or does not fit.
    """
    labels = read_labels(adapter or weights)
    if labels is None:
        model = load_causal_model(weights, dtype=dtype, device=device)
    elif adapter is None:
        model = load_classifier(weights, dtype=dtype, device=device)
    else:
        pad_id = int(tokenizer.pad_token_id)
        model = add_head(weights, labels=labels, pad_token_id=pad_id, dtype=dtype, device=device)
    if plain:
        model = cast(PreTrainedModel, dequantized(model).to(dtype=dtype)).eval()
    if adapter is not None:
        alone = (adapter / HEAD_WEIGHTS).is_file()
        model = put_head(model, adapter) if alone else put_adapter(model, adapter)
    return LoadedModel(model, tokenizer, end_ids, labels)
