"""The one place where sqlglot is asked to read SQL.

What models write makes parsers fail in ways that no list of exceptions names: assertions, missing
keys, exhausted stacks. Whatever the library raises on one text ends that text alone, as an
`UnreadableError` with a reason that the row's outcome can show. Texts that would take seconds are
refused before they are parsed: this runs in the scoring process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.dialect import NormalizationStrategy
from sqlglot.dialects.sqlite import SQLite
from sqlglot.parsers.sqlite import SQLiteParser
from sqlglot.tokens import TokenType

from retune.sql.lexing import Token, read_tokens

_MAX_CHARS = 20_000
_MAX_TOKENS = 3_000  # parsed in some 0.3 s
_MAX_DEPTH = 100
_DETAIL_CHARS = 300
_QUERY_STARTS = frozenset({"", "select", "with", "values"})
Dialect = str | type[SQLite]

# It would warn of each text that it does not know; the reason stands in the row's outcome.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


class UnreadableError(Exception):
    """A text cannot be read as SQL; never leaves `retune.scoring.sql`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail[:_DETAIL_CHARS]


@contextmanager
def library_errors(reason: str) -> Iterator[None]:
    """Turn whatever sqlglot raises on a text into `UnreadableError`.

    Args:
        reason: What the text is then called.

    Yields:
        Nothing.

    Raises:
        UnreadableError: The library raised.
    """
    try:
        yield
    except UnreadableError:
        raise
    except Exception as error:
        name = type(error).__name__
        raise UnreadableError(reason, f"{name}: {error}".encode("utf-8", "replace").decode()) from (
            error
        )


def refuse_large(sql: str) -> list[Token]:
    """Refuse what would take too long to parse.

    Args:
        sql: Any text.

    Returns:
        Its tokens.

    Raises:
        UnreadableError: `too_long`.
    """
    tokens = read_tokens(sql[: _MAX_CHARS + 1])
    too_deep = any(token.depth > _MAX_DEPTH for token in tokens)
    if len(sql) > _MAX_CHARS or len(tokens) > _MAX_TOKENS or too_deep:
        raise UnreadableError("too_long", f"{len(sql)} characters, {len(tokens)} tokens")
    return tokens


def parse_query(sql: str, dialect: Dialect) -> exp.Query | exp.Values:
    """Parse the one query that a text holds.

    Args:
        sql: Any text.
        dialect: What it is written in.

    Returns:
        The query.

    Raises:
        UnreadableError: `empty`, `too_long`, `not_a_query`, `not_parsed` or `several_statements`.
    """
    if not sql.strip():
        raise UnreadableError("empty")
    tokens = refuse_large(sql)
    if tokens and tokens[0].folded.strip(";(") not in _QUERY_STARTS:
        raise UnreadableError("not_a_query", f"starts with {tokens[0].text[:40]!a}")
    with library_errors("not_parsed"):
        parsed = [statement for statement in sqlglot.parse(sql, read=dialect) if statement]
    if len(parsed) != 1:
        raise UnreadableError("several_statements" if parsed else "empty")
    if not isinstance(parsed[0], exp.Query | exp.Values):
        raise UnreadableError("not_a_query", type(parsed[0]).__name__)
    return parsed[0]


def translate_sql(sql: str, dialect: str) -> str:
    """Translate statements to SQLite's dialect.

    Args:
        sql: Any number of statements.
        dialect: What they are written in, as sqlglot names it.

    Returns:
        The statements, divided by semicolons; unchanged where the dialect is SQLite's.

    Raises:
        UnreadableError: `not_in_dialect`.
    """
    if dialect == "sqlite":
        return sql
    with library_errors("not_in_dialect"):
        return ";\n".join(sqlglot.transpile(sql, read=dialect, write="sqlite"))


def affinity_of(type_name: str) -> str:
    """Return what SQLite makes of a type's name: `DECIMAL(10, 2)` is NUMERIC, `STRING` is too.

    Args:
        type_name: As declared or cast to.

    Returns:
        INTEGER, TEXT, BLOB, REAL or NUMERIC (https://sqlite.org/datatype3.html, 3.1).
    """
    name = type_name.upper()
    if "INT" in name:
        return "INTEGER"
    if any(part in name for part in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in name or not name:
        return "BLOB"
    return "REAL" if any(part in name for part in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def _read_cast(parser: sqlglot.Parser) -> exp.Expr:
    """Read `CAST(x AS any words)` as a call that is named after the affinity."""
    value = parser._parse_assignment()
    if not parser._match(TokenType.ALIAS):
        parser.raise_error("Expected AS after CAST")
    words, depth = [], 0
    while parser._curr.token_type != TokenType.SENTINEL:
        kind = parser._curr.token_type
        if kind == TokenType.R_PAREN and not depth:
            break
        depth += (kind == TokenType.L_PAREN) - (kind == TokenType.R_PAREN)
        words.append(parser._curr.text)
        parser._advance()
    return exp.Anonymous(this="cast_as_" + affinity_of(" ".join(words)), expressions=[value])


def _read_arrow(
    name: str, _parser: sqlglot.Parser, this: exp.Expr, path: exp.Expr
) -> exp.Anonymous:
    """Keep a JSON path as it is written; the library would parse and rewrite it."""
    return exp.Anonymous(this=name, expressions=[this, path])


class ExactSQLite(SQLite):
    """SQLite without the library's translations between dialects.

    sqlglot reads `LEN(x)` as LENGTH, `CAST(x AS DATE)` as DATE(x), `mod(a, 2)` as `a % 2` and
    drops a unary plus: handy for translating, but in SQLite they fail or give something else.
    Here every function keeps its name, and names that are not ASCII their case.
    """

    NORMALIZATION_STRATEGY = NormalizationStrategy.CASE_SENSITIVE

    class Parser(SQLiteParser):
        """Parses functions as calls of whatever they are called."""

        FUNCTIONS: ClassVar[dict[str, Callable[..., exp.Expr]]] = {}
        FUNCTION_PARSERS: ClassVar = {"CAST": _read_cast}
        NO_PAREN_FUNCTION_PARSERS: ClassVar = {"CASE": lambda self: self._parse_case()}
        CONCAT_OPERATORS: ClassVar = {
            **SQLiteParser.CONCAT_OPERATORS,
            TokenType.ARROW: partial(_read_arrow, "arrow"),
            TokenType.DARROW: partial(_read_arrow, "double_arrow"),
        }
        UNARY_PARSERS: ClassVar = {
            **SQLiteParser.UNARY_PARSERS,
            TokenType.PLUS: lambda self: exp.Anonymous(
                this="unary_plus", expressions=[self._parse_unary()]
            ),
        }
