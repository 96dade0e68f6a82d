"""Rows on disk: one Parquet file per table, written so that equal rows give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write rows as one Parquet file.

    Args:
        path: The file to write.
        rows: One mapping per row.
        schema: Columns and types; fixed, so that an empty or partly null table keeps them.
    """
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, compression="zstd")


def read_table(path: Path) -> pa.Table:
    """Map a Parquet file into memory (no copy into a library's cache)."""
    return pq.read_table(path, memory_map=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a Parquet file's rows as mappings."""
    rows: list[dict[str, Any]] = read_table(path).to_pylist()
    return rows
