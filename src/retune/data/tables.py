"""Rows on disk: one Parquet file per table, written so that equal rows give equal bytes.

Tables are written and read piece by piece, so that memory stays flat however many rows there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_AT_ONCE = 2048


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> int:
    """Write rows as one Parquet file.

    Args:
        path: The file to write.
        rows: One mapping per row; an iterator is never held in memory as a whole.
        schema: Columns and types; fixed, so that an empty or partly null table keeps them.

    Returns:
        How many rows were written.
    """
    pieces = iter(rows)
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while piece := list(islice(pieces, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(piece, schema=schema))
            count += len(piece)
    return count


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Map a Parquet file into memory (no copy into a library's cache)."""
    return pq.read_table(path, memory_map=True, columns=list(columns) if columns else None)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a Parquet file's rows as mappings, all at once."""
    rows: list[dict[str, Any]] = read_table(path).to_pylist()
    return rows


def iterate_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield a Parquet file's rows as mappings, a piece at a time.

    Args:
        path: The file.
        columns: Columns to read; None for all.

    Yields:
        Rows in the order of the file.
    """
    # Not mapped: of a large file that is read through, the pages would count as this process's.
    with pq.ParquetFile(path) as file:
        for piece in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns):
            yield from piece.to_pylist()


def filter_rows(
    path: Path, keep: Callable[[slice], npt.NDArray[np.bool_]], *, at_once: int = ROWS_AT_ONCE
) -> Iterator[pa.RecordBatch]:
    """Yield those rows of a Parquet file that are kept, a piece at a time; no piece is empty.

    Args:
        path: The file.
        keep: Tells of the rows of a piece whether they are kept.
        at_once: Rows that are read at a time.

    Yields:
        Rows in the order of the file.
    """
    start = 0
    with pq.ParquetFile(path) as file:
        for piece in file.iter_batches(batch_size=at_once):
            kept = piece.filter(pa.array(keep(slice(start, start + piece.num_rows))))
            start += piece.num_rows
            if kept.num_rows:
                yield kept


class RowTaker:
    """Takes rows of a Parquet file by number, one row group in memory at a time.

    Args:
        path: The file.
        columns: Columns to read.
    """

    def __init__(self, path: Path, columns: Sequence[str] | None = None) -> None:
        self._file = pq.ParquetFile(path)
        self._columns = list(columns) if columns else None
        sizes = [
            self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)
        ]
        self._starts = np.cumsum([0, *sizes])
        self._held: tuple[int, pa.Table] | None = None

    def take(self, rows: npt.NDArray[np.int64]) -> pa.Table:
        """Return rows in the order asked for.

        Args:
            rows: Numbers from 0, ``(n,)``, one at least.

        Returns:
            A table of ``n`` rows.
        """
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(groups, kind="stable")
        pieces = [
            self._read(int(group)).take(pa.array(rows[groups == group] - self._starts[group]))
            for group in np.unique(groups)
        ]
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return pa.concat_tables(pieces).take(pa.array(back))

    def _read(self, group: int) -> pa.Table:
        if self._held is None or self._held[0] != group:
            self._held = (group, self._file.read_row_group(group, columns=self._columns))
        return self._held[1]


def count_rows(path: Path) -> int:
    """Return how many rows a Parquet file has, from its footer."""
    return int(pq.read_metadata(path).num_rows)
