"""The process in which hostile SQL runs.

It reads one JSON request a line from standard input and answers one JSON line. It holds one
database and one gold result at a time, so that what an answer costs in memory does not depend on
what ran before. Three walls, each enough for most attacks: SQLite's authorizer and limits, the
kernel's limits on this process (memory, no file may grow, few open files), and the parent that
kills it when an answer is late. An alarm of its own ends it even if the parent is stopped.

Standard library only, and nothing of retune but `guard` and `compare`: it must start in some 30 ms
and have little in its memory that a query could reach.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import sqlite3
import sys
import time
import urllib.parse
from typing import Any

from retune.sql.compare import Row, results_match
from retune.sql.guard import STATEMENT_LIMITS, BuildingGuard, PreparingGuard, ReadingGuard

Reply = dict[str, Any]

_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 16
_STEPS_BETWEEN_LOOKS = 10_000
_PAGE_BYTES = 4096
_DETAIL_CHARS = 300
_SHOWN_CHARS = 200
"""Of one value that a person is shown."""
_SHOWN_CELLS = 1000


class _StatementError(Exception):
    """A statement gave no result; carries the status and SQLite's words."""

    def __init__(self, status: str, detail: str = "") -> None:
        super().__init__(status)
        self.reply: Reply = {"status": status, "detail": detail[:_DETAIL_CHARS]}


class Worker:
    """One open database, its guard, and the gold result of the row in hand.

    Args:
        limits: Fields of `SqlLimits`.
    """

    def __init__(self, limits: dict[str, Any]) -> None:
        self._limits = limits
        self._connection: sqlite3.Connection | None = None
        self._guard = ReadingGuard(())
        self._gold: list[Row] = []
        self._deadline = 0.0

    def answer(self, request: dict[str, Any]) -> Reply:
        """Do one request: `open` a database, run `gold` or `probe`, `prepare`, `show`, or judge."""
        seconds = float(request["deadline_s"])
        # Processor time: what a query answers must not depend on what else the machine does.
        self._deadline = time.process_time() + seconds
        # Twice the deadline: by then the parent has killed this process, if it still can.
        signal.setitimer(signal.ITIMER_PROF, 2 * seconds + 1)
        try:
            return self._do(request)
        except _StatementError as failure:
            return failure.reply
        except MemoryError:
            return {"status": "out_of_memory", "detail": ""}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _do(self, request: dict[str, Any]) -> Reply:
        if request["op"] == "open":
            return self._open(request.get("path"), request.get("context"))
        if request["op"] == "gold":
            self._gold = []
            self._gold = self._run(request["sql"], self._limits["max_rows"])
            return {"status": "ok", "rows": len(self._gold)}
        if request["op"] == "prepare":
            return self._prepare_alone(request["context"], request["sql"])
        if request["op"] == "show":
            return self._show(request["sql"], request["rows"])
        if request["op"] == "probe":  # the gold's rows stay in hand
            return {"status": "ok", "rows": len(self._run(request["sql"], 1, cut=True))}
        # One row more than the gold is enough to know that the prediction is wrong.
        rows = self._run(request["sql"], len(self._gold) + 1, cut=True)
        match = results_match(self._gold, rows, ordered=request["ordered"])
        return {"status": "ok", "rows": len(rows), "match": match}

    def _open(self, path: str | None, context: str | None) -> Reply:
        if self._connection is not None:
            self._connection.close()
        self._gold = []
        if path is not None:
            # immutable: no lock, journal or shared-memory file appears beside the database.
            source = f"file:{urllib.parse.quote(path)}?mode=ro&immutable=1"
        else:
            source = ":memory:"
        try:
            # No statement cache: a cached statement would not ask the guard again.
            self._connection = sqlite3.connect(
                source, uri=True, isolation_level=None, cached_statements=0
            )
            self._restrict(self._connection)
            if context is not None:
                self._build(self._connection, context)
            return self._close_for_writing(self._connection)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise _StatementError("unreadable", str(error)) from error

    def _prepare_alone(self, context: str, sql: str) -> Reply:
        """Say whether SQLite can prepare a query over tables without rows; nothing is run."""
        try:
            with contextlib.closing(sqlite3.connect(":memory:", cached_statements=0)) as empty:
                self._restrict(empty)
                empty.executescript(context)
                found = empty.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                empty.set_authorizer(PreparingGuard(name for (name,) in found.fetchall()))
                empty.execute("EXPLAIN " + sql).close()
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise _StatementError("failed", str(error)) from error
        return {"status": "ok"}

    def _restrict(self, connection: sqlite3.Connection) -> None:
        connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        pages = self._limits["memory_bytes"] // 4 // _PAGE_BYTES
        for pragma in ("temp_store=2", "trusted_schema=0", f"max_page_count={pages}"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self._limits["max_value_bytes"])
        for limit, value in STATEMENT_LIMITS:
            connection.setlimit(limit, value)
        connection.set_progress_handler(self._is_late, _STEPS_BETWEEN_LOOKS)

    def _is_late(self) -> bool:
        return time.process_time() > self._deadline

    def _build(self, connection: sqlite3.Connection, context: str) -> None:
        guard = BuildingGuard()
        connection.set_authorizer(guard)
        try:
            connection.executescript(context)
            if connection.in_transaction:
                connection.commit()
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise self._failure_of(error, guard.refused) from error
        finally:
            connection.set_authorizer(None)

    def _close_for_writing(self, connection: sqlite3.Connection) -> Reply:
        connection.execute("PRAGMA query_only=1").fetchall()
        found = connection.execute(
            "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')"
        ).fetchall()
        has_rows = any(
            connection.execute(f"SELECT 1 FROM {_quoted(name)} LIMIT 1").fetchone()
            for name, kind in found
            if kind == "table"
        )
        self._guard = ReadingGuard(name for name, _ in found)
        connection.set_authorizer(self._guard)
        return {"status": "ok", "has_rows": has_rows}

    def _run(self, sql: str, max_rows: int, *, cut: bool = False) -> list[Row]:
        _, rows = self._fetch(sql, max_rows + (not cut))
        if self._guard.not_deterministic:
            raise _StatementError("not_deterministic")
        if len(rows) > max_rows:
            raise _StatementError("too_many_rows", f"more than {max_rows} rows")
        return rows

    def _fetch(self, sql: str, count: int) -> tuple[list[str], list[Row]]:
        """Return the columns of a query and its first rows."""
        connection = self._connection
        if connection is None:
            raise _StatementError("unreadable", "no database is open")
        self._guard.reset()
        try:
            with contextlib.closing(connection.execute(sql)) as cursor:
                rows: list[Row] = cursor.fetchmany(count)
                return [column[0] for column in cursor.description or ()], rows
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise self._failure_of(error, self._guard.refused) from error

    def _show(self, sql: str, most_rows: int) -> Reply:
        """Return what a person is shown of a result, as JSON has it; the clock may be read."""
        columns, rows = self._fetch(sql, most_rows + 1)
        shown = rows[: min(most_rows, max(1, _SHOWN_CELLS // max(1, len(columns))))]
        return {
            "status": "ok",
            "columns": [_clean(name) for name in columns],
            "rows": [[_as_json(value) for value in row] for row in shown],
            "more": len(rows) > len(shown),
        }

    def _failure_of(self, error: Exception, refused: str | None) -> _StatementError:
        if self._guard.not_deterministic:
            return _StatementError("not_deterministic", str(error))
        if refused is not None:
            return _StatementError("unsafe", f"{error} ({refused})")
        if str(error) == "interrupted":
            return _StatementError("timeout", "the deadline passed")
        return _StatementError("failed", str(error))


def _as_json(value: Any) -> str | int | float | None:
    if isinstance(value, bytes):
        cut = "..." if len(value) > _SHOWN_CHARS else ""
        return f"x'{value[:_SHOWN_CHARS].hex()}'{cut}"
    if isinstance(value, str):
        return _clean(value)
    # 9e999 is infinite in SQLite, and no number in JSON.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _clean(text: str) -> str:
    cut = text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
    # Bytes that are no UTF-8 came in as lone surrogates, which nothing could send on.
    return cut.encode("utf-8", "replace").decode()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def restrict_process(memory_bytes: int, parent: int) -> None:
    """Give up what this process never needs, for good.

    Args:
        memory_bytes: Limit of its address space.
        parent: Process id of who started it; when that one is gone, so is this one.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing a file fails instead of killing
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        _, hard = resource.getrlimit(limit)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS has no RLIMIT_AS worth the name
            resource.setrlimit(limit, (most, most))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def main() -> None:
    """Answer requests until standard input ends, or memory ran out once."""
    limits = json.loads(sys.argv[1])
    restrict_process(limits["memory_bytes"], int(sys.argv[2]))
    worker = Worker(limits)
    _say({"status": "ready"})
    for line in sys.stdin.buffer:
        reply = worker.answer(json.loads(line))
        _say(reply)
        if reply["status"] == "out_of_memory":
            return  # what the failed allocation left behind is not for the next row


def _say(reply: Reply) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()
