"""Bringing a side's rows together from the tables of all sources, in the order of its index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retune.data.tables import ROWS_AT_ONCE

_INDEX_COLUMNS = ["source", "row", "row_id", "group", "db_id", "label"]
_TEXT_COLUMNS = ["question", "context", "history", "steps", "learned", "answer"]


@dataclass(frozen=True)
class SourceTables:
    """The two tables of one source, which have the same rows in the same order.

    Attributes:
        rows: `rows.parquet` of its `DatasetRef`.
        chats: `chats.parquet` of its `EncodedRef`.
    """

    rows: Path
    chats: Path


class RowTaker:
    """Takes rows of a Parquet file by number, one row group in memory at a time.

    Args:
        path: The file.
        columns: Columns to read.
    """

    def __init__(self, path: Path, columns: Sequence[str] | None = None) -> None:
        self._file = pq.ParquetFile(path, memory_map=True)
        self._columns = list(columns) if columns else None
        sizes = [
            self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)
        ]
        self._starts = np.cumsum([0, *sizes])
        self._held: tuple[int, pa.Table] | None = None

    def take(self, rows: np.ndarray) -> pa.Table:
        """Return rows in the order asked for.

        Args:
            rows: Numbers from 0, ``(n,)``.

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


def gather_rows(index: Path, sources: Sequence[SourceTables]) -> Iterator[pa.Table]:
    """Yield a side's rows with their texts and chats, a piece at a time.

    Args:
        index: The side's `<side>.parquet`.
        sources: Tables by the number that the index gives them.

    Yields:
        Tables with the columns of index, rows and chats; in the order of the index.
    """
    texts = [RowTaker(source.rows, _TEXT_COLUMNS) for source in sources]
    chats = [RowTaker(source.chats) for source in sources]
    with pq.ParquetFile(index, memory_map=True) as file:
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=_INDEX_COLUMNS):
            yield _gather(pa.Table.from_batches([batch]), texts, chats)


def _gather(index: pa.Table, texts: Sequence[RowTaker], chats: Sequence[RowTaker]) -> pa.Table:
    source, row = (index[name].to_numpy() for name in ("source", "row"))
    pieces, places = [], []
    for number in np.unique(source):
        here = np.flatnonzero(source == number)
        taken = texts[number].take(row[here])
        encoded = chats[number].take(row[here])
        for name in encoded.schema.names:
            taken = taken.append_column(name, encoded[name])
        pieces.append(taken)
        places.append(here)
    back = np.argsort(np.concatenate(places), kind="stable")
    gathered = pa.concat_tables(pieces).take(pa.array(back))
    for name in ("row_id", "group", "db_id", "label"):
        gathered = gathered.append_column(name, index[name])
    return gathered.combine_chunks()
