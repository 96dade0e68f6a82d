"""Hashed shingles and signatures of all rows, on disk while rows are compared.

They are as large as the texts themselves, so memory must not hold them.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from retune.data.columns.contract import Columns
from retune.data.columns.mapped_files import map_zeros
from retune.data.quality.near import PERMUTATIONS, Hashes, sign_sets

_COPIED_AT_ONCE = 4096


class ShingleSets:
    """Sets of hashed shingles and their signatures by row; use it as a context.

    Args:
        folder: Where two files are made, and removed in the end.
        rows: How many rows there are.
        columns: Where it is kept how long each row's set is.
    """

    def __init__(self, folder: Path, rows: int, columns: Columns) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = (folder / "signatures.u32", folder / "shingles.u32")
        self._columns = columns
        self._ends = columns.zeros(rows + 1, np.int64)
        self._filled = 0
        shape = (max(rows, 1), PERMUTATIONS)
        self._map = map_zeros(self._paths[0], shape[0] * PERMUTATIONS * 4)
        self.signatures = np.frombuffer(self._map, np.uint32).reshape(shape)
        self._file = os.open(self._paths[1], os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)

    def __enter__(self) -> ShingleSets:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)
        for path in self._paths:
            path.unlink()

    def extend(self, rows: Sequence[Sequence[Hashes]]) -> None:
        """Append the next rows: for each the hashed shingles of its text's parts."""
        if not rows:
            return
        first, end = self._filled, self._filled + len(rows)
        self.signatures[first:end] = sign_sets([np.concatenate(parts) for parts in rows])
        packed = [_pack(parts) for parts in rows]
        joined = np.concatenate(packed)
        _write_all(self._file, joined.tobytes(), int(self._ends[first]) * joined.itemsize)
        sizes = np.array([one.size for one in packed])
        self._ends[first + 1 : end + 1] = self._ends[first] + np.cumsum(sizes)
        self._filled = end

    def read(self, row: int) -> list[Hashes]:
        """Return the sorted hashes of each part of a row's text."""
        start, end = int(self._ends[row]) * 4, int(self._ends[row + 1]) * 4
        packed = np.frombuffer(os.pread(self._file, end - start, start), dtype=np.uint32)
        begins = 1 + int(packed[0])
        return np.split(packed[begins:], np.cumsum(packed[1 : begins - 1]).tolist())

    def release(self) -> None:
        """Let go of the signatures that were read and written so far: the file has them."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def write_signatures(self, path: Path, keep: NDArray[np.bool_]) -> int:
        """Write the signatures of the rows that are kept as a `.npy` file; return their number."""
        rows = self._columns.count(keep)
        header = {"descr": "<u4", "fortran_order": False, "shape": (rows, PERMUTATIONS)}
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(keep), _COPIED_AT_ONCE):
                block = slice(start, start + _COPIED_AT_ONCE)
                file.write(self.signatures[block][keep[block]].tobytes())
                self.release()
                self._columns.release()
        return rows


class SignatureFile:
    """Signatures that `write_signatures` wrote, read where they are looked at.

    Args:
        path: The `.npy` file.

    Attributes:
        rows: ``(rows, 128)``.
    """

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            shape, _, kind = np.lib.format.read_array_header_1_0(file)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            count = int(np.prod(shape))
            read = (
                np.frombuffer(self._map, kind, count, file.tell()) if count else np.zeros(0, kind)
            )
        self.rows: NDArray[np.uint32] = read.reshape(shape)

    def release(self) -> None:
        """Let go of what was read so far."""
        self._map.madvise(mmap.MADV_DONTNEED)


def _pack(parts: Sequence[Hashes]) -> Hashes:
    # How many parts, how large each is, then their hashes.
    head = np.array([len(parts), *(part.size for part in parts)], dtype=np.uint32)
    return np.concatenate([head, *parts])


def _write_all(file: int, content: bytes, offset: int) -> None:
    left = memoryview(content)
    while left:  # One call writes at most 2 GB.
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written
