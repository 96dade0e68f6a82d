"""Rows on disk: one Parquet file per table, written so that equal rows give equal bytes.

Tables are written and read piece by piece, so that memory stays flat however many rows there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

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
    with pq.ParquetFile(path, memory_map=True) as file:
        for piece in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns):
            yield from piece.to_pylist()


def count_rows(path: Path) -> int:
    """Return how many rows a Parquet file has, from its footer."""
    return int(pq.read_metadata(path).num_rows)
