"""What a query answers: its columns and first rows, from a database that it cannot write to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retune.sql.parsing import UnreadableError
from retune.sql.queries import read_query
from retune.sql.records import SqlLimits, SqlRecord
from retune.sql.sandbox import SqlSandbox

SHOWN_ROWS = 10
Value = str | int | float | None


class ShownQuery(SqlRecord):
    """What became of a query."""

    query: str
    """As it was given."""
    runs: bool
    """Whether it ran to its end."""
    reason: str | None = None
    """Why it does not: `empty`, `several_statements`, `unsafe`, `failed`, `timeout` and so on; of
    what it was to run on, `schema_...` or `database_...`."""
    detail: str = ""
    """SQLite's own words, for a person."""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Value, ...], ...] = ()
    """The first rows; long texts are cut, a blob is ``x'...'``."""
    more: bool = False
    """Whether there are more rows."""


@dataclass(frozen=True)
class Tables:
    """What a query runs on.

    Attributes:
        script: CREATE and INSERT statements that a database in memory is built from; or None.
        database: A SQLite file, which is opened for reading alone; or None.
    """

    script: str | None = None
    database: Path | None = None


def show_query(sandbox: SqlSandbox, limits: SqlLimits, tables: Tables, query: str) -> ShownQuery:
    """Run a query and show what it answers. It may read the clock, unlike one that is scored.

    Args:
        sandbox: Where it runs.
        limits: What it may cost.
        tables: What it runs on.
        query: In SQLite's dialect.

    Raises:
        ScoringError: No process can be started for it.
    """
    try:
        sql = read_query(query, limits.max_sql_chars, "sqlite", repeatable=False)
    except UnreadableError as refused:
        return _failed(query, refused.reason, refused.detail)
    opened = _open(sandbox, limits, tables)
    if opened["status"] != "ok":
        what = "schema" if tables.database is None else "database"
        return _failed(query, f"{what}_{opened['status']}", opened["detail"])
    reply = sandbox.ask("show", deadline_s=limits.deadline_s, sql=sql, rows=SHOWN_ROWS)
    if reply["status"] != "ok":
        return _failed(query, reply["status"], reply["detail"])
    return ShownQuery(
        query=query,
        runs=True,
        columns=tuple(reply["columns"]),
        rows=tuple(map(tuple, reply["rows"])),
        more=reply["more"],
    )


def _open(sandbox: SqlSandbox, limits: SqlLimits, tables: Tables) -> dict[str, Any]:
    # Each time anew: opening takes no time, and nobody sees what another one's script made.
    if tables.database is not None:
        if not tables.database.is_file():
            return {"status": "missing", "detail": "the file is gone"}
        where = {"path": str(tables.database.resolve())}
    else:
        script = tables.script or ""
        if len(script) > limits.max_context_chars:
            return {"status": "too_long", "detail": f"{len(script)} characters"}
        where = {"context": script}
    return sandbox.ask("open", deadline_s=limits.context_deadline_s, **where)


def _failed(query: str, reason: str, detail: str) -> ShownQuery:
    # What SQLite quotes of a query may end in the middle of a character.
    clean = detail.encode("utf-8", "replace").decode()
    return ShownQuery(query=query, runs=False, reason=reason, detail=clean)
