"""Which tables and columns the CREATE statements of a schema make.

For SQLite, SQLite itself is asked: it builds each statement in an empty database in memory and
says what columns came of it, so that columns without a type, generated ones, quoted names and
constraints are what they are there. A view, and a table made from a query, is built as a view,
asked, and kept as a plain table, so that nothing is ever run and views of views cost nothing. A
virtual table has the columns that its statement lists. What SQLite refuses (other dialects' types)
sqlglot reads, as it reads all schemas that are declared to be in another dialect; where it cannot,
the names are taken that stand first in the table's list.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from functools import lru_cache
from itertools import pairwise

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from retune.sql.guard import STATEMENT_LIMITS, BuildingGuard
from retune.sql.lexing import Creation, Token, read_creations, read_tokens
from retune.sql.names import Scopes
from retune.sql.parsing import UnreadableError, library_errors

Columns = Mapping[str, Mapping[str, str]]
"""Column types by table and column, in lower case."""

_MAX_CHARS = 2_000_000
_UNTYPED = "TEXT"
_HIDDEN = 1  # of a virtual table; generated columns are 2 and 3
_INDEX_WORDS = frozenset({"key", "index", "fulltext", "spatial"})
_CONSTRAINTS = frozenset({"primary", "foreign", "unique", "check", "constraint", "exclude", "like"})
_CAPITALS = str.maketrans({chr(code): chr(code + 32) for code in range(65, 91)})


@lru_cache(maxsize=256)
def read_schema(schema: str, dialect: str) -> Columns:
    """Read the tables, views and columns that CREATE statements make, in lower case.

    Args:
        schema: The statements; others among them are passed over.
        dialect: What they are written in.

    Returns:
        Column types by table and column; a column without a type counts as text.

    Raises:
        UnreadableError: `schema_unreadable`: there are such statements, and none can be read.
    """
    if len(schema) > _MAX_CHARS:
        raise UnreadableError("schema_unreadable", f"{len(schema)} characters")
    if dialect != "sqlite":
        with library_errors("schema_unreadable"):
            return _parse(schema, dialect)
    with closing(_Builder()) as builder:
        for creation in read_creations(schema):
            builder.add(creation)
        return builder.columns()


def write_schema(columns: Columns) -> str:
    """Write CREATE TABLE statements that SQLite accepts.

    Args:
        columns: As `read_schema` returns them.

    Returns:
        One statement per table.
    """
    return "".join(_create_table(table, found) for table, found in columns.items() if found)


def _create_table(table: str, columns: Iterable[str]) -> str:
    listed = ", ".join(_quoted(name) for name in columns)
    return f"CREATE TABLE {_quoted(table)} ({listed});\n"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class _AskingGuard(BuildingGuard):
    """Allows to ask for a table's columns beside making it."""

    def _allows(self, action: int, first: str, second: str, database: str | None) -> bool:
        asks = action == sqlite3.SQLITE_PRAGMA and first == "table_xinfo"
        return asks or super()._allows(action, first, second, database)


class _Builder:
    """Builds one schema in an empty database and remembers its columns."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0)
        for limit, value in STATEMENT_LIMITS:
            self._connection.setlimit(limit, value)
        self._found: dict[str, dict[str, str]] = {}
        self._waiting: list[Creation] = []
        self._unread: list[str] = []

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def add(self, creation: Creation) -> None:
        """Read one statement; one that reads from others may come before them."""
        if creation.kind == "virtual":
            self._keep(*_read_virtual(creation.tokens))
        elif creation.kind == "view" or _query_behind(creation) is not None:
            self._waiting.append(creation)
        elif not self._build(creation, _from_start(creation, "TABLE")):
            self._read_otherwise(creation)

    def columns(self) -> Columns:
        """Return what all statements made.

        Raises:
            UnreadableError: None of them could be read.
        """
        before = len(self._waiting) + 1
        while 0 < len(self._waiting) < before:  # a view of a later view waits for it
            before = len(self._waiting)
            self._waiting = [
                creation
                for creation in self._waiting
                if not self._build(creation, _from_start(creation, "VIEW"))
            ]
        for creation in self._waiting:
            self._read_otherwise(creation)
        if self._unread and not self._found:
            raise UnreadableError("schema_unreadable", self._unread[0])
        return self._found

    def _build(self, creation: Creation, statement: str) -> bool:
        """Let SQLite make it, and say whether it could."""
        self._connection.set_authorizer(_AskingGuard())
        try:
            self._connection.execute(statement)
            [(name, kind)] = self._connection.execute(
                # AUTOINCREMENT makes a table of SQLite's own behind the one that was asked for.
                "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') "
                "AND name NOT LIKE 'sqlite^_%' ESCAPE '^' ORDER BY rowid DESC LIMIT 1"
            ).fetchall()
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            self._unread.append(f"{error}: {creation.text[:80]!a}")
            return False
        try:
            listed = self._connection.execute(f"PRAGMA table_xinfo({_quoted(name)})").fetchall()
        except (sqlite3.Error, ValueError):
            listed = []  # a view of what is not there, or not yet
        columns = {
            row[1]: row[2] or _UNTYPED
            for row in listed
            if row[6] != _HIDDEN and not _is_index(row[1], row[2])
        }
        if kind == "view":
            self._connection.set_authorizer(None)
            self._connection.execute(f"DROP VIEW {_quoted(name)}")
        if not columns:
            return False
        if kind == "view":
            self._connection.execute(_create_table(name, columns))
        self._remember(name, columns)
        return True

    def _read_otherwise(self, creation: Creation) -> None:
        """Read what SQLite refuses with sqlglot, and keep the table for views of it."""
        try:
            with library_errors("schema_unreadable"):
                found = _parse(creation.text, "sqlite", self._found)
        except UnreadableError as unreadable:
            self._unread.append(unreadable.detail)
            found = {}
        if not found and creation.kind == "table":
            found = _read_list(creation)
        for table, columns in found.items():
            self._keep(table, columns)

    def _keep(self, table: str, columns: Mapping[str, str]) -> None:
        if not table or not columns or table in self._found:
            return
        self._remember(table, columns)
        self._connection.set_authorizer(None)
        with suppress(sqlite3.Error, ValueError):  # its columns are known, but views of it are not
            self._connection.execute(_create_table(table, columns))

    def _remember(self, table: str, columns: Mapping[str, str]) -> None:
        self._found[table.translate(_CAPITALS)] = {
            name.translate(_CAPITALS): kind for name, kind in columns.items()
        }


def _is_index(name: str, type_name: str) -> bool:
    """Tell MySQL's `KEY k (a)`, which SQLite takes for a column `key` of the type `k(a)`."""
    words = read_tokens(type_name)
    listed = any(token.depth and token.kind in ("word", "quoted", "double") for token in words)
    return name.lower() in _INDEX_WORDS and listed


def _read_list(creation: Creation) -> dict[str, dict[str, str]]:
    """Read the names that stand first in a table's list, where no parser knows what follows."""
    tokens = creation.tokens
    start = next((at for at, token in enumerate(tokens) if token.text == "("), 0)
    if not start or tokens[start - 1].kind == "operator":
        return {}
    items: list[list[Token]] = [[]]
    for token in tokens[start + 1 :]:
        if token.text == ")" and token.depth <= tokens[start].depth:
            break
        if token.text == "," and token.depth == tokens[start].depth + 1:
            items.append([])
        else:
            items[-1].append(token)
    columns = {
        _unquote(item[0]): _UNTYPED
        for item in items
        # `KEY k (a)` makes an index, `key TEXT` a column.
        if item
        and item[0].folded not in _CONSTRAINTS
        and not (item[0].folded in _INDEX_WORDS and any(token.text == "(" for token in item))
        and item[0].kind not in ("operator", "number")
    }
    return {_unquote(tokens[start - 1]): columns} if columns else {}


def _query_behind(creation: Creation) -> int | None:
    """Return where the query of CREATE TABLE ... AS begins, among the tokens."""
    for at, (token, following) in enumerate(pairwise(creation.tokens)):
        if token.text == "(":
            return None
        if token.folded == "as" and following.folded in ("select", "with", "values"):
            return at + 1
    return None


def _from_start(creation: Creation, kind: str) -> str:
    """Write CREATE TABLE or VIEW without TEMP, which has a database of its own."""
    for token in creation.tokens:
        if token.folded in ("table", "view"):
            return f"CREATE {kind} {creation.text[token.start - creation.tokens[0].start + 5 :]}"
    return creation.text


def _read_virtual(tokens: Sequence[Token]) -> tuple[str, dict[str, str]]:
    """Read the columns that `USING module(a, b UNINDEXED, option = x)` lists.

    The table's own name is one as well: `WHERE notes MATCH 'x'`.
    """
    words = [token.folded for token in tokens]
    if "using" not in words:
        return "", {}
    name = _unquote(tokens[words.index("using") - 1])
    arguments: list[list[Token]] = [[]]
    for token in tokens[words.index("using") + 2 :]:
        if token.depth == 1 and token.text == ",":
            arguments.append([])
        elif token.depth >= 1:
            arguments[-1].append(token)
    columns = [
        _unquote(argument[0])
        for argument in arguments
        if argument and not any(token.text == "=" for token in argument)
    ]
    return name, dict.fromkeys([*columns, name], _UNTYPED)


def _unquote(token: Token) -> str:
    if token.kind in ("double", "quoted", "string"):
        quote = token.text[0]
        return token.text[1:-1].replace(quote * 2, quote)
    return token.text


def _parse(
    schema: str, dialect: str, known: Mapping[str, Collection[str]] | None = None
) -> dict[str, dict[str, str]]:
    try:
        statements = sqlglot.parse(schema, read=dialect)
    except SqlglotError:
        # SQLite does without a comma before a table's constraint, and real schemas leave it out.
        statements = sqlglot.parse(_separate_constraints(schema), read=dialect)
    tables: dict[str, dict[str, str]] = {}
    for statement in statements:
        if isinstance(statement, exp.Create) and statement.kind in ("TABLE", "VIEW"):
            made = statement.find(exp.Table)
            if made is not None and made.name:
                found = _columns_of(statement, {**(known or {}), **tables})
                tables[made.name.translate(_CAPITALS)] = found
    return {table: columns for table, columns in tables.items() if columns}


def _columns_of(statement: exp.Create, known: Mapping[str, Collection[str]]) -> dict[str, str]:
    columns: dict[str, str] = {}
    if isinstance(statement.this, exp.Schema):
        for item in statement.this.expressions:
            if isinstance(item, exp.ColumnDef):
                kind = item.kind.sql() if item.kind else _UNTYPED
                if not _is_index(item.name, kind):
                    columns[item.name] = kind
            elif isinstance(item, exp.Identifier):  # a column without a type
                columns[item.name] = _UNTYPED
    elif statement.expression is not None:
        names = Scopes(statement.expression, known).outputs_of(statement.expression)
        columns = dict.fromkeys(sorted(names or ()), _UNTYPED)
    return {name.translate(_CAPITALS): kind for name, kind in columns.items()}


def _separate_constraints(schema: str) -> str:
    pieces, done = [], 0
    tokens = read_tokens(schema)
    for before, token in pairwise(tokens):
        if token.folded == "foreign" and before.text not in (",", "("):
            pieces += [schema[done : token.start], ", "]
            done = token.start
    return "".join([*pieces, schema[done:]])
