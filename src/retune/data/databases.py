"""Loading the databases that rows ask about: what a prompt shows, and the SQL that makes them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from retune.data.formats.cells import as_text, ascii_of, name_keys
from retune.data.formats.schemas import create_statements, describe_database
from retune.data.jsonl import read_jsonl
from retune.data.reading.locating import DATABASE_ENDINGS, databases_digest
from retune.data.schemas import DATABASE_SCHEMA
from retune.data.stages import DatabasesInputs
from retune.data.tables import write_table
from retune.digests import digest_folder
from retune.errors import DataError
from retune.records import LOG_FOLDER, DatabasesRef, RowSource
from retune.spine.stage import Workdir
from retune.text_files import read_text_file

_MOST_BYTES = 64 * 1024 * 1024
_TRANSACTION = ("BEGIN TRANSACTION;", "COMMIT;")


def load_databases(inputs: DatabasesInputs, work: Workdir) -> DatabasesRef:
    """Read databases and bring them to one table.

    Args:
        inputs: A file, or SQLite files.
        work: `databases.parquet` goes to its artifact folder.

    Returns:
        Count and digest.

    Raises:
        DataError: A database cannot be read, or is listed twice. None is left out: the rows that
            ask about it would be lost for a reason that they do not show.
    """
    files = inputs.source.files
    _refuse_changed(inputs.source)
    table = work.artifact / "databases.parquet"
    count = write_table(table, _watched(files, work), DATABASE_SCHEMA)
    if not count:
        raise DataError(f"{inputs.source.name}: holds no databases.")
    # What was written meanwhile would stand under the key of what was there before.
    _refuse_changed(inputs.source)
    return DatabasesRef(
        digest=digest_folder(work.artifact, without=(LOG_FOLDER,)),
        folder=work.artifact,
        databases=count,
    )


def _refuse_changed(source: RowSource) -> None:
    if databases_digest(source.files) != source.digest:
        raise DataError(f"{source.name}: changed since the run began. Run the recipe again.")


def _watched(files: tuple[Path, ...], work: Workdir) -> Iterator[dict[str, str]]:
    first: dict[str, str] = {}
    for done, path in enumerate(files):
        work.reporter.progress("files", done, len(files))
        for where, database in _read(path):
            name = database["db_id"]
            if name in first:
                raise DataError(f"{where}: db_id {name!r} was already listed at {first[name]}.")
            first[name] = where
            yield database


def _read(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    suffix = path.suffix.lower()
    if suffix in DATABASE_ENDINGS:
        yield str(path), _read_sqlite(path)
    elif suffix == ".json":
        yield from _read_mapping(path)
    else:
        for line, row in read_jsonl(path):
            yield f"{path}:{line}", _read_line(f"{path}:{line}", row)


def _read_line(where: str, row: dict[str, Any]) -> dict[str, str]:
    missing = [key for key in ("db_id", "schema") if key not in row]
    if missing:
        raise DataError(
            f"{where}: no column {missing[0]!r}; the row has {name_keys(row)}. Expected db_id, "
            "schema (CREATE statements) and context (SQL that creates and fills it)."
        )
    # Without a context the database is there but empty.
    texts = {**row, "context": row.get("context") or row["schema"]}
    try:
        return {key: as_text(key, texts[key]) for key in ("db_id", "schema", "context")}
    except DataError as error:
        raise DataError(f"{where}: {error}.") from error


def _read_mapping(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        found = json.loads(read_text_file(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}).") from error
    if not isinstance(found, dict):
        raise DataError(
            f"{path}: expected an object that maps each database's name to its CREATE statements, "
            f"found {type(found).__name__}."
        )
    for name, script in found.items():
        where = f"{path}: {ascii_of(name):.80}"
        lines = script if isinstance(script, list) else [script]
        try:
            context = "\n".join(as_text("its script", line) for line in lines)
            name = as_text("the name", name)
            yield where, describe_database(name, context, absent="no CREATE TABLE in its script")
        except DataError as error:
            raise DataError(f"{where}: {error}.") from error


def _read_sqlite(path: Path) -> dict[str, str]:
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise DataError(
            f"{path}: {size:,} bytes, at most {_MOST_BYTES:,} are read. A database is built anew "
            "in memory for scoring: keep a part of its rows."
        )
    try:
        # immutable: never writes a journal beside a file that is not ours.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as opened:
            # Public sets hold texts in Latin-1: what is not UTF-8 is replaced, not fatal.
            opened.text_factory = lambda text: text.decode("utf-8", "replace")
            dump = [line for line in opened.iterdump() if _belongs(line)]
    except (sqlite3.Error, ValueError) as error:
        raise DataError(f"{path}: not readable as SQLite ({error}).") from error
    context = "\n".join(dump)
    schema = create_statements("\n".join(line for line in dump if not line.startswith("INSERT")))
    if not schema:
        raise DataError(f"{path}: holds no tables.")
    return {"db_id": path.stem, "schema": schema, "context": context}


def _belongs(statement: str) -> bool:
    """Leave out the transaction, and the counters of AUTOINCREMENT, which SQLite keeps itself."""
    return statement not in _TRANSACTION and "sqlite_sequence" not in statement[:40]
