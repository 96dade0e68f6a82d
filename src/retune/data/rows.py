"""Loading rows: recipe columns to one fixed table, every complaint with its file and line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from retune.data.jsonl import parse_line, read_jsonl, read_lines
from retune.data.tables import write_table
from retune.digests import digest_file, digest_folder
from retune.errors import DataError
from retune.recipe.sections import ColumnsConfig
from retune.records import DatasetRef, Source
from retune.requests import LoadInputs, LoadSection
from retune.stage import Workdir

ROW_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("group", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("db_id", pa.string()),
        ("fixed_test", pa.bool_()),
        ("line", pa.int64()),
    ]
)
DATABASE_SCHEMA = pa.schema(
    [("db_id", pa.string()), ("schema", pa.string()), ("context", pa.string())]
)
_MAX_ERRORS_SHOWN = 10


def load_rows(inputs: LoadInputs, section: LoadSection, work: Workdir) -> DatasetRef:
    """Read, check and normalise the recipe's rows.

    Args:
        inputs: The files.
        section: Which column holds what.
        work: `rows.parquet` and `databases.parquet` go to its artifact folder.

    Returns:
        Counts and digest.

    Raises:
        DataError: A file is broken or empty; all bad rows are listed at once (the first ten).
    """
    _refuse_changed(inputs)
    columns = section.data.columns
    databases = list(_read_databases(inputs.databases)) if inputs.databases else []
    known = {database["db_id"] for database in databases} if inputs.databases else None
    rows: list[dict[str, Any]] = []
    errors: list[str] = []
    for source in (inputs.train, inputs.test):
        if source is not None:
            fixed = source is inputs.test
            rows += _read_rows(source.path, columns, known, errors, fixed_test=fixed)
    errors += _repeated_ids(inputs, rows)
    if errors:
        more = len(errors) - _MAX_ERRORS_SHOWN
        tail = [f"... and {more} more bad rows"] if more > 0 else []
        raise DataError("\n".join([*errors[:_MAX_ERRORS_SHOWN], *tail]))
    write_table(work.artifact / "rows.parquet", rows, ROW_SCHEMA)
    write_table(work.artifact / "databases.parquet", databases, DATABASE_SCHEMA)
    return DatasetRef(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        rows=len(rows),
        test_rows=sum(row["fixed_test"] for row in rows),
        databases=len(databases),
    )


def _refuse_changed(inputs: LoadInputs) -> None:
    # The key was made of the digests: other bytes must not be stored under it.
    for source in (inputs.train, inputs.test, inputs.databases):
        if source is not None and digest_file(source.path) != source.digest:
            raise DataError(f"{source.path}: changed since the run began. Run the recipe again.")


def _read_rows(
    path: Path,
    columns: ColumnsConfig,
    databases: set[str] | None,
    errors: list[str],
    *,
    fixed_test: bool,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    before = len(errors)
    for line, text in read_lines(path):
        try:
            value = parse_line(path, line, text)
            rows.append(_normalise(path, line, value, columns, databases, fixed_test))
        except DataError as error:
            errors.append(str(error))
    if not rows and len(errors) == before:
        raise DataError(f"{path}: no rows. Expected one JSON object per line.")
    return rows


def _normalise(
    path: Path,
    line: int,
    value: dict[str, Any],
    columns: ColumnsConfig,
    databases: set[str] | None,
    fixed_test: bool,
) -> dict[str, Any]:
    where = f"{path}:{line}"
    group = _text(value, columns.group, where) if columns.group else None
    if databases is not None and group not in databases:
        raise DataError(
            f"{where}: {columns.group} is {group!r}, which data.databases does not list. "
            "Add the database or correct the row."
        )
    # Not by the file's name, which is not part of the stage's key.
    numbered = f"{'test' if fixed_test else 'train'}:{line}"
    row_id = _text(value, columns.row_id, where) if columns.row_id else numbered
    return {
        "row_id": row_id,
        "group": group or row_id,
        "question": _text(value, columns.question, where),
        "answer": _text(value, columns.answer, where),
        "db_id": group if databases is not None else None,
        "fixed_test": fixed_test,
        "line": line,
    }


def _text(value: dict[str, Any], column: str, where: str) -> str:
    if column not in value:
        there = ", ".join(map(repr, sorted(value))) or "none"
        raise DataError(
            f"{where}: no column {column!r}; the row has {there}. "
            "Name the right one under data.columns."
        )
    found = value[column]
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if not isinstance(found, str) or not found.strip():
        raise DataError(f"{where}: {column!r} must be non-empty text, found {found!r:.60}.")
    try:
        found.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: {column!r} holds a lone surrogate, not text.") from error
    return found


def _read_databases(source: Source) -> Iterator[dict[str, str]]:
    seen: set[str] = set()
    for line, value in read_jsonl(source.path):
        where = f"{source.path}:{line}"
        row = {name: _text(value, name, where) for name in ("db_id", "schema", "context")}
        if row["db_id"] in seen:
            raise DataError(f"{where}: db_id {row['db_id']!r} was already listed above.")
        seen.add(row["db_id"])
        yield row


def _repeated_ids(inputs: LoadInputs, rows: list[dict[str, Any]]) -> list[str]:
    first: dict[str, str] = {}
    errors = []
    for row in rows:
        source = inputs.test if row["fixed_test"] and inputs.test else inputs.train
        where = f"{source.path}:{row['line']}"
        if row["row_id"] in first:
            errors.append(
                f"{where}: row id {row['row_id']!r} stands twice, first at {first[row['row_id']]}. "
                "Ids must be unique over train and test files."
            )
        else:
            first[row["row_id"]] = where
    return errors
