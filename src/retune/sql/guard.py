"""What SQLite may do for a hostile query, and for a hostile CREATE/INSERT context.

Both guards are lists of what is allowed: whatever a later SQLite learns to do is refused until
somebody adds it here. SQLite asks while it compiles a statement, before anything runs.

Standard library only: the sandbox's worker imports this module.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

SQLITE_FUNCTION = 31  # sqlite3 names neither of these two
SQLITE_RECURSIVE = 33

STATEMENT_LIMITS = (
    (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
    (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 100),
    (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 500),
    (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 500),
    (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 0),
    (sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 0),
    (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
)

_CLOCK = frozenset({"current_date", "current_time", "current_timestamp"})
_DRAWS = frozenset({"random", "randomblob"})
# Functions of their arguments alone. Not here, on purpose: load_extension, readfile, writefile,
# edit, fts3_tokenizer, sqlite_*, zeroblob, changes, total_changes, last_insert_rowid.
PURE_FUNCTIONS = frozenset(
    """
    abs avg char coalesce concat concat_ws count cume_dist date datetime dense_rank first_value
    format glob group_concat hex ifnull iif instr json json_array json_array_length json_extract
    json_group_array json_group_object json_insert json_object json_patch json_quote json_remove
    json_replace json_set json_type json_valid julianday lag last_value lead length like
    likelihood likely lower ltrim max min nth_value ntile nullif octet_length percent_rank printf
    quote rank replace round row_number rtrim sign soundex strftime string_agg substr substring
    sum time timediff total trim typeof unhex unicode unixepoch unlikely upper -> ->>
    acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10
    log2 mod pi pow power radians sin sinh sqrt tan tanh trunc
    """.split()  # noqa: SIM905 - a list of sixty lines reads worse
)
_TABLE_FUNCTIONS = frozenset({"json_each", "json_tree"})
_BUILT_IN_TABLES = ("pragma_", "dbstat", "sqlite_stmt", "sqlite_dbpage", "bytecode", "tables_used")
_CATALOGUES = frozenset({"sqlite_master", "sqlite_schema"})


class ReadingGuard:
    """Allows SELECT over the tables that a database holds, and pure functions; nothing else.

    Args:
        tables: Names of the database's tables and views.
    """

    def __init__(self, tables: Iterable[str]) -> None:
        named = {name.lower() for name in tables}
        self._readable = named | _CATALOGUES | _TABLE_FUNCTIONS
        self.refused: str | None = None
        self.not_deterministic = False

    def reset(self) -> None:
        """Forget what the last statement asked for."""
        self.refused, self.not_deterministic = None, False

    def __call__(
        self, action: int, first: str | None, second: str | None, *_where: str | None
    ) -> int:
        """Answer SQLite's question; see `sqlite3.Connection.set_authorizer`."""
        if action in (sqlite3.SQLITE_SELECT, SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and self._may_read((first or "").lower(), second or ""):
            return sqlite3.SQLITE_OK
        if action == SQLITE_FUNCTION and self._may_call((second or "").lower()):
            return sqlite3.SQLITE_OK
        self.refused = self.refused or f"action {action} on {first or second}"
        return sqlite3.SQLITE_DENY

    def _may_read(self, table: str, column: str) -> bool:
        # `WITH c AS (...) SELECT count(*) FROM c` asks for no column of `c`, which is no table.
        return table in self._readable or (not column and not table.startswith(_BUILT_IN_TABLES))

    def _may_call(self, function: str) -> bool:
        if function in _CLOCK or function in _DRAWS:
            self.not_deterministic = True
        return function in PURE_FUNCTIONS or function in _CLOCK


class PreparingGuard(ReadingGuard):
    """Allows to prepare what reads tables by any function: it is never run."""

    def _may_call(self, function: str) -> bool:
        return function != "load_extension"


class BuildingGuard:
    """Allows CREATE TABLE, INDEX and VIEW and INSERT in the in-memory database; nothing else."""

    _CREATES = frozenset(
        {
            sqlite3.SQLITE_CREATE_TABLE,
            sqlite3.SQLITE_CREATE_INDEX,
            sqlite3.SQLITE_CREATE_VIEW,
            sqlite3.SQLITE_REINDEX,  # asked when an index is made
        }
    )
    _READS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, SQLITE_RECURSIVE})

    def __init__(self) -> None:
        self.refused: str | None = None

    def __call__(
        self,
        action: int,
        first: str | None,
        second: str | None,
        database: str | None,
        _trigger: str | None,
    ) -> int:
        """Answer SQLite's question; see `sqlite3.Connection.set_authorizer`."""
        if self._allows(action, first or "", second or "", database):
            return sqlite3.SQLITE_OK
        self.refused = self.refused or f"action {action} on {first or second}"
        return sqlite3.SQLITE_DENY

    def _allows(self, action: int, first: str, second: str, database: str | None) -> bool:
        if action == sqlite3.SQLITE_READ:
            return not first.lower().startswith(_BUILT_IN_TABLES)
        if action in self._READS or action == sqlite3.SQLITE_TRANSACTION:
            return True
        if action == SQLITE_FUNCTION:
            # DEFAULT CURRENT_TIMESTAMP is common in dumps; both queries see the same rows.
            return second.lower() in PURE_FUNCTIONS or second.lower() in _CLOCK
        if action == sqlite3.SQLITE_UPDATE:
            # CREATE TABLE asks for this itself; an UPDATE of the catalogue by hand SQLite refuses.
            return first.lower() in _CATALOGUES
        inserts = action == sqlite3.SQLITE_INSERT
        return (inserts or action in self._CREATES) and database == "main"
