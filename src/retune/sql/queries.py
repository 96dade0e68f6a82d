"""Which text is one query that may run: no second statement, nothing that writes."""

from __future__ import annotations

from retune.sql.lexing import is_deterministic, name_double_quoted, read_tokens, split_statements
from retune.sql.parsing import UnreadableError, translate_sql

_QUERY_WORDS = frozenset({"select", "with", "values"})
_WRITING_WORDS = frozenset(
    """
    alter analyze attach begin commit copy create delete detach drop end execute explain grant
    insert merge pragma reindex release replace revoke rollback savepoint set truncate update
    vacuum
    """.split()  # noqa: SIM905 - a list of sixty lines reads worse
)


def read_query(text: str, max_chars: int, dialect: str, *, repeatable: bool) -> str:
    """Return the one query in a text as SQLite is to run it.

    Args:
        text: What a model or a person wrote.
        max_chars: Longest text.
        dialect: What it is written in; all but `sqlite` are translated by sqlglot.
        repeatable: Whether it has to answer the same whenever it runs.

    Returns:
        The query; its double-quoted names are back-quoted, so that a misspelt one fails.

    Raises:
        UnreadableError: `empty`, `too_long`, `several_statements`, `unsafe`, `not_a_query`,
            `not_in_dialect`, or, where it has to be repeatable, `not_deterministic`.
    """
    if not text.strip():
        raise UnreadableError("empty")
    if len(text) > max_chars:
        raise UnreadableError("too_long", f"{len(text)} characters")
    sql = translate_sql(text, dialect)
    statements = split_statements(read_tokens(sql))
    if not statements:
        raise UnreadableError("empty")
    if len(statements) > 1:
        raise UnreadableError("several_statements", f"{len(statements)} statements")
    first_word = statements[0][0].folded
    if first_word in _WRITING_WORDS:
        raise UnreadableError("unsafe", f"starts with {first_word.upper()}")
    if first_word not in _QUERY_WORDS:
        raise UnreadableError("not_a_query", f"starts with {first_word[:40]!a}")
    tokens = read_tokens(sql)
    if repeatable and not is_deterministic(tokens):
        raise UnreadableError("not_deterministic", "reads the clock or draws random numbers")
    return name_double_quoted(sql, tokens)
