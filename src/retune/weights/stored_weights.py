"""A snapshot whose weights stay in its files and are read one at a time, as float32.

The model itself is built without values. transformers says which weight of it lies where: what it
would convert while loading, such as the experts of a mixture or MXFP4 blocks, it writes converted
into a scratch folder, one weight at a time. 4-bit weights of bitsandbytes become the values that
they stand for when they are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import init_empty_weights
from accelerate.hooks import remove_hook_from_submodules
from accelerate.utils import OffloadedWeightsLoader
from bitsandbytes.functional import QuantState, dequantize_4bit
from safetensors import safe_open
from transformers import PreTrainedModel

from retune.data.chats.tokenizers import Tokenizer
from retune.inference.loaded_models import load_causal_model
from retune.modeling.architectures import plain_config
from retune.modeling.head_files import read_labels
from retune.modeling.heads import add_head, load_classifier, pool_last_real_token
from retune.modeling.prequantized import NF4, quantized_as

Weights = Mapping[str, torch.Tensor]

_QUANT_STATE = ".quant_state.bitsandbytes__nf4"
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_CPU = torch.device("cpu")


class StoredWeights(Mapping[str, torch.Tensor]):
    """The weights of a model by the names that it gives them, each read when it is asked for.

    Args:
        index: For each name the file, and the name there, as transformers writes its offload index.
        snapshot: Whose files hold what belongs to a weight in 4 bits.
        dtype: In which they are given.
    """

    def __init__(
        self, index: Mapping[str, Mapping[str, str]], snapshot: Path, dtype: torch.dtype
    ) -> None:
        self._index = index
        self._dtype = dtype
        self._four_bit = _find_four_bit(snapshot) if quantized_as(snapshot) == NF4 else {}

    def __getitem__(self, name: str) -> torch.Tensor:
        """Read a weight; integers stay integers."""
        place = self._index[name]
        own = place.get("weight_name", name)
        parts = self._four_bit.get(own)
        found = _read(Path(place["safetensors_file"]), own)
        if parts:
            state = QuantState.from_dict(
                {key: _read(path, key) for key, path in parts.items()}, device=_CPU
            )
            found = dequantize_4bit(found, state)
        return found.to(self._dtype) if found.is_floating_point() else found

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._index)

    def __len__(self) -> int:
        """Return how many weights there are."""
        return len(self._index)


def open_stored(
    folder: Path,
    *,
    scratch: Path,
    tokenizer: Tokenizer,
    head_of: Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[PreTrainedModel, StoredWeights]:
    """Build the model of a snapshot without values, and say where its weights are read.

    Args:
        folder: A snapshot of any kind that is loaded: image-text, MXFP4, NF4, with a head.
        scratch: Where what has to be converted is written.
        tokenizer: The model's own.
        head_of: Folder of what will be put on it; where that has a head, the model gets a new one.
        dtype: Of the model, and of what is read.

    Returns:
        The model in evaluation mode, its parameters on the meta device and its buffers on the CPU
        (a new head has values), and its weights.

    Raises:
        ConfigError: It cannot be loaded, or weights are missing.
    """
    options: dict[str, Any] = {
        "device": _CPU,
        # In the number type of the files nothing has to be read to find out where it is.
        "dtype": _stored_dtype(folder),
        "device_map": {"": "disk"},
        "offload_folder": str(scratch),
    }
    if quantized_as(folder) == NF4:
        options["config"] = plain_config(folder)
    labels = read_labels(head_of or folder)
    if labels is None:
        model = load_causal_model(folder, **options)
    elif head_of is None:
        model = load_classifier(folder, **options)
    else:
        pad_id = int(tokenizer.pad_token_id)
        model = add_head(folder, labels=labels, pad_token_id=pad_id, **options)
    index = _take_index(model)
    if labels is not None:
        # Its own way to read a text went with the hooks.
        pool_last_real_token(model)
    model.to(dtype=dtype)
    _renew_buffers(model, dtype)
    return model, StoredWeights(index, folder, dtype)


def _take_index(model: PreTrainedModel) -> Mapping[str, Mapping[str, str]]:
    """Take accelerate's hooks off a model, with what they know of its weights."""
    hooks = (getattr(module, "_hf_hook", None) for module in model.modules())
    maps = (getattr(hook, "weights_map", None) for hook in hooks)
    loader = next(each for each in maps if each is not None).dataset
    remove_hook_from_submodules(model)
    del model.hf_device_map
    return cast(Mapping[str, Mapping[str, str]], cast(OffloadedWeightsLoader, loader).index)


def _renew_buffers(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Compute what a model computes of its configuration in the number type that it now has.

    Made in 16 bits, a scale factor would stay rounded to them.
    """
    with init_empty_weights(include_buffers=False):
        anew = type(model)._from_config(model.config, dtype=dtype)
    saved = model.state_dict().keys()
    for name, buffer in anew.named_buffers():
        if name not in saved:
            parent, _, own = name.rpartition(".")
            model.get_submodule(parent)._buffers[own] = buffer


def _headers(folder: Path) -> Iterator[tuple[Path, Any]]:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            yield path, file


def _stored_dtype(folder: Path) -> torch.dtype:
    """Return the number type of most weights of a snapshot that is not one of whole bytes."""
    counts: Counter[torch.dtype] = Counter()
    for _, file in _headers(folder):
        for name in file.keys():  # noqa: SIM118
            part = file.get_slice(name)
            if part.get_dtype() in _DTYPES:
                counts[_DTYPES[part.get_dtype()]] += int(torch.Size(part.get_shape()).numel())
    return max(counts, key=lambda each: counts[each], default=torch.float32)


def _find_four_bit(folder: Path) -> dict[str, dict[str, Path]]:
    """Return what belongs to each weight in 4 bits, and in which file each part lies."""
    files = {name: path for path, file in _headers(folder) for name in file.keys()}  # noqa: SIM118
    whole = [name.removesuffix(_QUANT_STATE) for name in files if name.endswith(_QUANT_STATE)]
    return {
        name: {key: path for key, path in files.items() if key.startswith(f"{name}.")}
        for name in whole
    }


def _read(path: Path, name: str) -> torch.Tensor:
    # Read, and not mapped: pages of a mapped file would be held beside the copy of them.
    with safe_open(path, "pt", backend="pread") as file:
        return cast(torch.Tensor, file.get_tensor(name))
