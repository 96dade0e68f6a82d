"""The databases that rows ask about: their schemas for prompts, and those that a side uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from retune.data.schemas import DATABASE_SCHEMA
from retune.data.stages import ChatInputs
from retune.data.tables import ROWS_AT_ONCE, read_table
from retune.records import DatabasesRef, DatasetRef

_FILE = "databases.parquet"


def list_tables(databases: DatabasesRef | None, rows: Sequence[DatasetRef]) -> list[Path]:
    """List the tables that may hold a row's database.

    Args:
        databases: Those that all sources share.
        rows: Sources, some of which bring their own.

    Returns:
        Files; of two databases with one name the later file's counts.
    """
    shared = [databases.folder / _FILE] if databases else []
    return [*shared, *(each.folder / _FILE for each in rows if each.databases)]


class SchemaLookup:
    """CREATE statements by database; kept as Arrow columns, not as Python texts.

    Args:
        files: From `list_tables`.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._tables = [read_table(path, ["db_id", "schema"]) for path in files]
        self._places = {
            name: (table, place)
            for table, each in enumerate(self._tables)
            for place, name in enumerate(each["db_id"].to_pylist())
        }

    def find(self, db_id: str) -> str | None:
        """Return the CREATE statements of a database; None when it is not known."""
        if db_id not in self._places:
            return None
        table, place = self._places[db_id]
        return str(self._tables[table]["schema"][place].as_py())


def write_used_databases(path: Path, inputs: ChatInputs, used: Set[str]) -> None:
    """Write the databases that a side asks about, in the order of their tables.

    Args:
        path: The file to write.
        inputs: Shared databases, and the sources with theirs.
        used: Names of the databases.
    """
    left = set(used)
    with pq.ParquetWriter(path, DATABASE_SCHEMA, compression="zstd") as writer:
        for file in reversed(list_tables(inputs.databases, inputs.rows)):
            for batch in _batches(file):
                names = batch["db_id"].to_pylist()
                keep = []
                for name in names:
                    keep.append(name in left)
                    left.discard(name)
                if any(keep):
                    table = pa.Table.from_batches([batch]).select(DATABASE_SCHEMA.names)
                    writer.write_table(table.filter(pa.array(keep)))


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path, memory_map=True) as file:
        yield from file.iter_batches(batch_size=ROWS_AT_ONCE)
