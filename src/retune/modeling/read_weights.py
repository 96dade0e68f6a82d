"""Weights of a snapshot that are read when they are asked for, for loading that keeps none of them.

`from_pretrained` maps a snapshot's files. Where weights stay as they are stored that is right: they
are their own copy. Where each becomes something smaller, all pages that were looked at would lie
beside the result until the last one is done, and count as the process's own. Given these as its
``state_dict``, it reads one weight, quantizes it and lets go of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open

from retune.machine import trim_heap

_INDEX, _WHOLE = "model.safetensors.index.json", "model.safetensors"


class ReadWeight:
    """A weight in its file, as transformers takes it: an index reads it.

    Args:
        part: Slice of safetensors.
    """

    def __init__(self, part: Any) -> None:
        self._part = part

    def __getitem__(self, index: Any) -> torch.Tensor:
        """Read it."""
        # What quantizing the weight before it has freed would be held beside this one.
        trim_heap()
        return cast(torch.Tensor, self._part[index])

    def get_dtype(self) -> str:
        """Return the number type of the file, as safetensors names it."""
        return str(self._part.get_dtype())

    def get_shape(self) -> list[int]:
        """Return the lengths of its dimensions."""
        return list(self._part.get_shape())


@contextmanager
def opened_weights(folder: Path) -> Iterator[dict[str, ReadWeight]]:
    """Open the files that `from_pretrained` would take of a folder.

    Args:
        folder: A snapshot folder.

    Yields:
        Weights by their names in the files, to be read before the block ends.

    Raises:
        OSError: There are no such files.
    """
    with ExitStack() as files:
        found: dict[str, ReadWeight] = {}
        for path in _weight_files(folder):
            # Read, and not mapped.
            file = files.enter_context(safe_open(path, "pt", backend="pread"))
            found |= {name: ReadWeight(file.get_slice(name)) for name in file.keys()}  # noqa: SIM118
        yield found


def _weight_files(folder: Path) -> list[Path]:
    index = folder / _INDEX
    if index.is_file():
        names = json.loads(index.read_text("utf-8"))["weight_map"].values()
        return [folder / name for name in sorted({*names})]
    if not (folder / _WHOLE).is_file():
        raise OSError(f"neither {_INDEX} nor {_WHOLE} is there")
    return [folder / _WHOLE]
