"""Rows of a Parquet file, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retune.data.reading.lines import Found, too_long
from retune.errors import DataError

_ROWS_AT_ONCE = 256


def read_parquet(path: Path, limit: int) -> Iterator[Found]:
    """Yield the rows of a Parquet file.

    Args:
        path: The file.
        limit: Most characters of a row's texts.

    Yields:
        The rows, with their number for a line.

    Raises:
        DataError: The file is no Parquet, or breaks off; the message is the reason alone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    length = _characters(row)
                    too_big = length > limit
                    reason = too_long(length, limit) if too_big else ""
                    yield Found(number, None if too_big else row, reason)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"not readable as Parquet ({error})") from error


def _characters(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else 0
