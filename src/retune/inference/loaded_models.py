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
from retune.inference.elsewhere import open_engine
from retune.inference.remote_engine import RemoteEngine
from retune.inference.replicas import Replicas, share_batches
from retune.machine import count_scoring_devices, trim_heap
from retune.model_records import WHOLE, Placement, ScoredModel, StagePlace
from retune.modeling.architectures import dequantized, open_snapshot
from retune.modeling.devices import choose_device, choose_dtype
from retune.modeling.four_bit import as_bitsandbytes, use_plain_4bit_kernels
from retune.modeling.head_files import HEAD_WEIGHTS, read_labels
from retune.modeling.heads import add_head, load_classifier, put_head
from retune.modeling.memory.meta_model import build_meta_model
from retune.modeling.prequantized import NF4, quantized_as
from retune.modeling.weights import refuse_wrong
from retune.recipe.sections.base import Devices
from retune.recipe.sections.scoring import Form


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its tokenizer.

    Attributes:
        model: On its device, without gradients.
        tokenizer: The model's own.
        end_ids: Ids that end an answer.
        labels: Names of the classes of a model with a head, in the order of its figures; None where
            it writes.
        placement: Whether it is held whole on its device.
        engine: Who writes its answers; None for this process. `model` then has no weights.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    end_ids: list[int]
    labels: tuple[str, ...] | None = None
    placement: Placement = "device"
    engine: RemoteEngine | None = None

    @property
    def alive(self) -> bool:
        """Whether it can be asked still; an engine elsewhere may have gone."""
        return self.engine is None or self.engine.alive


class ModelSlot:
    """Keeps the model that was asked for last; one device seldom holds two."""

    def __init__(self) -> None:
        self._held: tuple[str, StagePlace] | None = None
        self._loaded: LoadedModel | None = None
        self._replicas: Replicas | None = None

    def get(self, scored: ScoredModel, devices: Devices = 1) -> LoadedModel:
        """Return a model, loaded now or by the stage before.

        Args:
            scored: What to load and where; its digest says whether the model at hand is the same.
            devices: On how many devices it computes batches, as `scoring.runtime.devices` says it.

        Returns:
            The model in evaluation mode.

        Raises:
            ConfigError: The folder cannot be loaded as a causal language model, or there are not as
                many devices.
            ServiceError: The engine that writes its answers cannot be asked.
        """
        held = (scored.digest, scored.place)
        if self._loaded is None or self._held != held or not self._loaded.alive:
            self.clear()
            self._loaded, self._held = load_scored_model(scored), held
        if self._loaded.engine is not None:
            return self._loaded
        count = count_scoring_devices(devices)
        if count != (self._replicas.count if self._replicas else 1):
            self._close()
            self._replicas = Replicas(scored, count, _load_model)
            share_batches(self._loaded.model, self._replicas)
        return self._loaded

    def keep(self, scored: ScoredModel, loaded: LoadedModel) -> None:
        """Keep a model that a stage has loaded, for those that use it next.

        One on another device, or with weights of another type, than `get` would load is let go.

        Args:
            scored: What it is, plain and whole on its device.
            loaded: From these very files.
        """
        self.clear()
        device = choose_device()
        as_loaded = (loaded.model.device.type, loaded.model.dtype, loaded.placement)
        if as_loaded == (device.type, choose_dtype("auto", device), scored.place.placement):
            self._loaded, self._held = loaded, (scored.digest, scored.place)

    def _close(self) -> None:
        if self._replicas is not None:
            self._replicas.close()
            self._replicas = None

    def clear(self) -> None:
        """Free the memory, before training for example."""
        self._close()
        if self._loaded is not None and self._loaded.engine is not None:
            self._loaded.engine.close()
        self._loaded, self._held = None, None
        free_unused()


SLOT = ModelSlot()
"""The process's one slot."""


def free_unused() -> None:
    """Give back what models hold that nothing refers to any more; their parts refer to each other.

    Without it the next one comes on top of the last.
    """
    gc.collect()
    # What is loaded next may be mapped, and would come on top of what the C library keeps.
    trim_heap()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def load_causal_model(
    folder: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    place: StagePlace = WHOLE,
    **options: Any,
) -> PreTrainedModel:
    """Load a snapshot folder as a causal language model.

    Of an image-text model the text part alone is loaded; MXFP4 weights are dequantized.

    Args:
        folder: Plain or 4-bit snapshot.
        dtype: Of the weights that are not quantized.
        device: Where it goes.
        place: Whether a part of it stays on the disk, or all of it is computed on the CPU.
        options: Passed to `from_pretrained`, such as `quantization_config`.

    Returns:
        The model in evaluation mode.

    Raises:
        ConfigError: transformers cannot load it, or would fill missing weights with random ones.
    """
    try:
        model, found = open_snapshot(folder, dtype=dtype, device=device, place=place, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"{folder}: cannot be loaded as a causal language model ({error})."
        ) from error
    refuse_wrong(folder, found)
    use_plain_4bit_kernels(model, dtype if device.type == "cpu" else None)
    return model.eval()


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
        scored: Where the parts lie, in which form they are loaded and where they are held; they
            say themselves whether the model has a head.

    Returns:
        The model in evaluation mode.

    Raises:
        ConfigError: A part cannot be loaded, or an adapter does not fit.
        ServiceError: The engine that writes its answers cannot be asked.
    """
    tokenizer = load_tokenizer(scored.tokenizer)
    end_ids = end_token_ids(tokenizer, scored.tokenizer)
    if scored.engine is not None:
        model = build_meta_model(scored.weights, dtype=torch.float32).eval()
        engine = open_engine(scored.engine, end_ids)
        return LoadedModel(model, tokenizer, end_ids, engine=engine)
    device = choose_device()
    return load_parts(
        scored.weights,
        scored.adapter,
        tokenizer=tokenizer,
        end_ids=end_ids,
        dtype=choose_dtype("auto", device),
        device=device,
        place=scored.place,
        form=scored.form,
    )


def _load_model(scored: ScoredModel) -> PreTrainedModel:
    return load_scored_model(scored).model


def load_parts(
    weights: Path,
    adapter: Path | None,
    *,
    tokenizer: Tokenizer,
    end_ids: list[int],
    dtype: torch.dtype,
    device: torch.device,
    plain: bool = False,
    place: StagePlace = WHOLE,
    form: Form = "plain",
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
        place: Whether a part of it stays on the disk, or all of it is computed on the CPU.
        form: ``nf4`` quantizes plain weights while they are loaded.

    Returns:
        The model in evaluation mode.

    Raises:
        ConfigError: A part cannot be loaded, or does not fit.
    """
    labels = read_labels(adapter or weights)
    where: dict[str, Any] = {"dtype": dtype, "device": device, "place": place}
    where |= _quantized(weights, dtype) if form == NF4 else {}
    if labels is None:
        model = load_causal_model(weights, **where)
    elif adapter is None:
        model = load_classifier(weights, **where)
    else:
        pad_id = int(tokenizer.pad_token_id)
        model = add_head(weights, labels=labels, pad_token_id=pad_id, **where)
    if plain and place.placement != "offloaded":
        model = cast(PreTrainedModel, dequantized(model).to(dtype=dtype)).eval()
    if adapter is not None:
        alone = (adapter / HEAD_WEIGHTS).is_file()
        model = put_head(model, adapter) if alone else put_adapter(model, adapter)
    return LoadedModel(model, tokenizer, end_ids, labels, place.placement)


def _quantized(weights: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Return how weights are loaded in 4 bits; those that are so already are taken as they are.

    The same settings whatever the recipe says, so that figures of two recipes can be compared.
    """
    if quantized_as(weights) == NF4:
        return {}
    config = as_bitsandbytes(double=True, compute_dtype=dtype, storage_dtype=torch.uint8)
    return {"quantization_config": config}
