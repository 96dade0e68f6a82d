"""Weights of a snapshot in files of at most a size, no byte of any weight changed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from retune.errors import ConfigError
from retune.modeling.snapshots import WEIGHT_PATTERNS

if TYPE_CHECKING:
    from torch import Tensor

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
_INDEX = "model.safetensors.index.json"


def read_size(text: str) -> int:
    """Return the bytes of a size such as ``2GB``.

    Args:
        text: A whole number with KB, MB or GB, which are powers of 1000.

    Raises:
        ConfigError: It is none.
    """
    found = re.fullmatch(r"([1-9][0-9]*)(KB|MB|GB)", text)
    if found is None:
        raise ConfigError(
            f"--max-shard-size {text!r}: expected a whole number with KB, MB or GB, such as 2GB."
        )
    return int(found[1]) * _UNITS[found[2]]


def copy_weights(source: Path, target: Path, max_shard_size: str) -> None:
    """Copy a snapshot's weights, parted anew where one of its files is larger than allowed.

    One weight alone may be larger than a file: it then has a file of its own.

    Args:
        source: The snapshot.
        target: Folder that they go to.
        max_shard_size: As `read_size` reads it.

    Raises:
        OSError: The disk is full or not writable.
    """
    files = sorted(source.glob("*.safetensors"))
    if max(path.stat().st_size for path in files) <= read_size(max_shard_size):
        for pattern in WEIGHT_PATTERNS:
            for path in source.glob(pattern):
                # Copied and not linked: what is done to an export must not reach the registry.
                shutil.copyfile(path, target / path.name)
        return
    _part(files, target, max_shard_size)


def _part(files: list[Path], target: Path, max_shard_size: str) -> None:
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import load_file, save_file

    # Files are mapped, so that pages are read when they are written and not held.
    weights: dict[str, Tensor] = {}
    for path in files:
        weights |= load_file(path)
    parts = split_torch_state_dict_into_shards(weights, max_shard_size=max_shard_size)
    for name, keys in parts.filename_to_tensors.items():
        save_file({key: weights[key] for key in keys}, target / name, metadata={"format": "pt"})
    if parts.is_sharded:
        index = {"metadata": parts.metadata, "weight_map": parts.tensor_to_filename}
        (target / _INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", "utf-8")
