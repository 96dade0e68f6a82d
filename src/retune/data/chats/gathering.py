"""Bringing a side's rows together from the tables of all sources, in the order of its index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retune.data.tables import ROWS_AT_ONCE, RowTaker

_INDEX_COLUMNS = ["source", "row", "row_id", "group", "db_id", "label"]
_TEXT_COLUMNS = ["question", "context", "history", "steps", "learned", "answer", "references"]


@dataclass(frozen=True)
class SourceTables:
    """The two tables of one source, which have the same rows in the same order.

    Attributes:
        rows: `rows.parquet` of its `DatasetRef`.
        chats: `chats.parquet` of its `EncodedRef`.
    """

    rows: Path
    chats: Path


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
    with pq.ParquetFile(index) as file:
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
