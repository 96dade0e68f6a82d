"""Queries that a model wrote, tried before a client gets them: `validate: true` of a request.

A query runs on a schema that came with the request, in memory, or on a database that the server
was given a name for. Both in the sandbox of scoring: a process that can write nothing.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from retune.data.formats.schemas import create_statements
from retune.errors import ConfigError, ScoringError
from retune.scoring.sql.score import extract_sql
from retune.serving.refusals import Refusal
from retune.serving.requests import Validated
from retune.sql.records import SqlLimits
from retune.sql.sandbox import SqlSandbox
from retune.sql.showing import ShownQuery, Tables, show_query

LOG = logging.getLogger("retune.serving")
_LIMITS = SqlLimits(deadline_s=2.0, context_deadline_s=2.0, memory_bytes=256 * 1024 * 1024)
_THREADS = 2
_NAMED = re.compile(r"(?P<name>[\w.-]{1,64})=(?P<path>.+)")
_HEADER = b"SQLite format 3\x00"


class Database(NamedTuple):
    """A database that clients may have queries tried on."""

    path: Path
    schema: str
    """Its CREATE statements."""


class QueryValidator:
    """Tries queries, a few at a time.

    Args:
        databases: By the name that clients call them.
    """

    def __init__(self, databases: Mapping[str, Database]) -> None:
        self._databases = dict(databases)
        # A sandbox dies with the thread that started it, and each thread has one.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="validating")
        self._own, self._sandboxes = threading.local(), list[SqlSandbox]()

    def find(self, wanted: Validated) -> Database | None:
        """Return the database that a request names; None where it names none.

        Raises:
            Refusal: There is none of that name.
        """
        if wanted.database is None:
            return None
        found = self._databases.get(wanted.database)
        if found is None:
            known = ", ".join(sorted(self._databases)) or "none: the server was given none"
            why = f"database: {wanted.database!r:.80} is not known here; known are {known}"
            raise Refusal(400, why, "database_not_found", param="database")
        return found

    def tables(self, wanted: Validated) -> Tables | None:
        """Return what the queries of a request are to run on; None where none is to be tried.

        Raises:
            Refusal: It names a database that is not known here.
        """
        database = self.find(wanted)
        if not wanted.validates:
            return None
        if database is not None:
            return Tables(database=database.path)
        return Tables(script=wanted.ddl)

    async def check(
        self, answers: Sequence[str], tables: Tables, seconds: float
    ) -> list[ShownQuery]:
        """Try the queries in answers.

        Args:
            answers: What a model wrote.
            tables: What they run on.
            seconds: Until nobody waits any longer.

        Raises:
            Refusal: They took too long together, or no process can be started for them.
        """
        loop = asyncio.get_running_loop()
        tries = [loop.run_in_executor(self._threads, self._try, each, tables) for each in answers]
        try:
            return list(await asyncio.wait_for(asyncio.gather(*tries), max(0.0, seconds)))
        except TimeoutError:
            raise Refusal(504, "the query could not be tried in time", "timeout") from None
        except ScoringError as error:
            LOG.error("no query can be tried: %s", error.message)
            why = "the query cannot be tried here (validate); the server's log says why"
            raise Refusal(500, why, "server_fault") from None

    def _try(self, answer: str, tables: Tables) -> ShownQuery:
        if not hasattr(self._own, "sandbox"):
            self._own.sandbox = SqlSandbox(_LIMITS)
            self._sandboxes.append(self._own.sandbox)
        return show_query(self._own.sandbox, _LIMITS, tables, extract_sql(answer))

    def close(self) -> None:
        """End its processes."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for sandbox in self._sandboxes:
            sandbox.kill()


def read_databases(given: Sequence[str]) -> dict[str, Database]:
    """Look at the databases that a server is given.

    Args:
        given: ``NAME=FILE`` each.

    Raises:
        ConfigError: One is no name with a file, stands there twice, cannot be read, holds no
            tables, or is being written to.
    """
    found: dict[str, Database] = {}
    for each in given:
        named = _NAMED.fullmatch(each)
        if named is None:
            raise ConfigError(
                f"--database {each}: expected NAME=FILE, such as shop=data/shop.sqlite; clients "
                "call it by the name, of letters, digits, dots and dashes."
            )
        if named["name"] in found:
            raise ConfigError(f"--database {each}: {named['name']} is given twice.")
        found[named["name"]] = _read_database(Path(named["path"]))
    return found


def _read_database(path: Path) -> Database:
    if not path.is_file():
        raise ConfigError(f"--database {path}: there is no such file.")
    beside = [path.with_name(path.name + end) for end in ("-wal", "-journal")]
    busy = next((each for each in beside if each.is_file() and each.stat().st_size), None)
    if busy is not None:
        raise ConfigError(
            f"--database {path}: {busy.name} lies beside it, so that somebody writes to it, or "
            "died while writing. Name a copy that nobody writes to: sqlite3 FILE '.backup COPY'."
        )
    try:
        with open(path, "rb") as file:
            if file.read(len(_HEADER)) != _HEADER:
                raise ConfigError(f"--database {path}: is no SQLite file.")
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as opened:
            lines = opened.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
            schema = create_statements("".join(f"{sql};\n" for (sql,) in lines))
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(f"--database {path}: cannot be read ({error}).") from error
    if not schema:
        raise ConfigError(f"--database {path}: holds no tables.")
    return Database(path.resolve(), schema)
