"""Rows of a Parquet file, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retune.data.reading.lines import Found, too_long
from retune.data.reading.streams import refuse_other_kinds
from retune.errors import DataError

_ROWS_AT_ONCE = 256
_BEGINNING = b"PAR1"
_SEEN_BYTES = 64


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
    path.stat()  # A file that cannot be opened is no fault of its format.
    try:
        with pq.ParquetFile(path) as file:
            _refuse_twins(file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                for row in _rows_of(batch):
                    number += 1
                    yield _found(number, row, limit)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        with open(path, "rb") as unread:
            head = unread.read(_SEEN_BYTES)
        if not head.startswith(_BEGINNING):
            refuse_other_kinds(head)
        # Damaged pages are an OSError too.
        shown = "".join(sign if sign.isprintable() else " " for sign in str(error))
        raise DataError(f"not readable as Parquet ({shown:.300})") from error


def _rows_of(batch: Any) -> Iterator[dict[str, Any] | str]:
    """Yield a batch's rows; for one with a value that Python has no type for, the reason."""
    import pyarrow as pa

    faults = (ValueError, OverflowError, pa.ArrowException)
    try:
        yield from batch.to_pylist()
    except faults:
        for place in range(batch.num_rows):
            try:
                yield batch.slice(place, 1).to_pylist()[0]
            except faults as error:
                yield f"holds a value that cannot be read ({error})"


def _found(number: int, row: dict[str, Any] | str, limit: int) -> Found:
    if isinstance(row, str):
        return Found(number, None, row)
    length = _characters(row)
    if length > limit:
        return Found(number, None, too_long(length, limit))
    return Found(number, row)


def _refuse_twins(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"two columns are named {', '.join(map(repr, twice))}: rename one")


def _characters(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else 0
