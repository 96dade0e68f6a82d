"""Which text-to-SQL rows ask for the same: the same canonical query over the same schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from retune.data.columns.contract import Columns, Hashes
from retune.data.parts.copies import SideRows, pick_rows
from retune.data.parts.splitting import hash_name
from retune.data.tables import iterate_rows
from retune.records import DatabasesRef, DatasetRef
from retune.sql.canonical import canonicalize_sql

_REPORT_EVERY = 200
_SHARED = -1
"""Stands for the place of a source where a database belongs to none."""


def hash_queries(
    sides: Sequence[SideRows],
    rows: Sequence[DatasetRef],
    databases: DatabasesRef | None,
    *,
    dialect: str,
    progress: Callable[[int, int], None],
) -> int:
    """Hash schema and canonical query of the rows whose schema stands on more than one side.

    Others cannot be copies of anything, and a parse takes about a millisecond.

    Args:
        sides: The rows of each side; their `queries` are filled here, zero where a row is not
            compared.
        rows: All sources, which hold the queries, and some of them databases.
        databases: Databases that the sources share.
        dialect: What the queries are written in, as sqlglot names it.
        progress: Told how many queries are read, and of how many.

    Returns:
        How many rows have a query or a schema that cannot be read.
    """
    columns = sides[0].columns
    schema_of = _hash_schemas(rows, databases)
    schemas = [_schemas_of(side, schema_of) for side in sides]
    shared = _on_several(schemas, columns)
    reader = _Reader(_schema_texts(rows, databases, set(shared.tolist())), dialect)
    done = 0
    total = sum(
        int(np.count_nonzero(np.isin(found[at], shared)))
        for found in schemas
        for at in columns.blocks(len(found))
    )
    for side, found in zip(sides, schemas, strict=True):
        for at in columns.blocks(len(side)):
            reader.unread += int(np.sum((side.databases[at] != 0) & (found[at] == 0)))
            compared = np.flatnonzero(np.isin(found[at], shared)) + at.start
            for number, row in pick_rows(rows, side.sources[compared], side.rows[compared]):
                place = compared[number]
                side.queries[place] = reader.hash_query(int(found[place]), row["answer"])
                done += 1
                if done % _REPORT_EVERY == 0 or done == total:
                    progress(done, total)
    return reader.unread


class _Reader:
    """Hashes canonical queries, each text once."""

    def __init__(self, schemas: Mapping[int, str], dialect: str) -> None:
        self.unread = 0
        self._schemas = schemas
        self._dialect = dialect
        self._known: dict[tuple[int, int], int] = {}

    def hash_query(self, schema: int, query: str) -> int:
        """Return what stands for schema and canonical query, zero where it cannot be read."""
        key = (schema, hash_name(query))
        if key not in self._known:
            canonical = canonicalize_sql(query, self._schemas[schema], dialect=self._dialect)
            self._known[key] = hash_name(f"{schema}\x00{canonical.text}") if canonical.text else 0
        self.unread += self._known[key] == 0
        return self._known[key]


def _places(
    rows: Sequence[DatasetRef], databases: DatabasesRef | None
) -> Iterator[tuple[int, Path]]:
    """Yield where databases lie, with the source that they came with."""
    for place, source in enumerate(rows):
        path = source.folder / "databases.parquet"
        if path.exists():
            yield place, path
    if databases is not None:
        yield _SHARED, databases.folder / "databases.parquet"


def _hash_schemas(
    rows: Sequence[DatasetRef], databases: DatabasesRef | None
) -> dict[tuple[int, int], int]:
    return {
        (place, hash_name(row["db_id"])): hash_name(row["schema"])
        for place, path in _places(rows, databases)
        for row in iterate_rows(path, ("db_id", "schema"))
    }


def _schema_texts(
    rows: Sequence[DatasetRef], databases: DatabasesRef | None, wanted: set[int]
) -> dict[int, str]:
    return {
        hashed: row["schema"]
        for _, path in _places(rows, databases)
        for row in iterate_rows(path, ("schema",))
        if (hashed := hash_name(row["schema"])) in wanted
    }


def _schemas_of(side: SideRows, schema_of: Mapping[tuple[int, int], int]) -> Hashes:
    """Return the hash of each row's schema: its own database's before one that sources share."""
    schemas: Hashes = side.columns.zeros(len(side), np.uint64)
    for at in side.columns.blocks(len(side)) if schema_of else ():
        asked = zip(side.sources[at].tolist(), side.databases[at].tolist(), strict=True)
        found = (
            schema_of.get((source, database)) or schema_of.get((_SHARED, database)) or 0
            for source, database in asked
        )
        schemas[at] = np.fromiter(found, np.uint64)
    return schemas


def _on_several(schemas: Sequence[Hashes], columns: Columns) -> Hashes:
    each = [_distinct(found, columns) for found in schemas]
    values, counts = np.unique(np.concatenate(each), return_counts=True)
    return np.asarray(values[(counts > 1) & (values != 0)], np.uint64)


def _distinct(values: Hashes, columns: Columns) -> Hashes:
    found = np.zeros(0, np.uint64)
    for at in columns.blocks(len(values)):
        found = np.union1d(found, values[at])
    return found
