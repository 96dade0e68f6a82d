"""The CREATE statements of an SQL script: what a prompt shows of a database."""

from __future__ import annotations

from retune.scoring.sql.lexing import Token, read_tokens, split_statements

_CREATED = frozenset({"table", "view"})
_BETWEEN = frozenset({"temp", "temporary", "virtual", "or", "replace", "materialized"})


def create_statements(script: str) -> str:
    """Take the CREATE TABLE and CREATE VIEW statements out of a script.

    Args:
        script: SQL, which may fill the tables as well.

    Returns:
        The statements as they stand, one below the other; empty where there is none.
    """
    statements = split_statements(read_tokens(script))
    return "\n".join(_text(script, tokens) for tokens in statements if _creates(tokens))


def _creates(tokens: list[Token]) -> bool:
    if tokens[0].folded != "create":
        return False
    kinds = (token.folded for token in tokens[1:4] if token.folded not in _BETWEEN)
    return next(kinds, "") in _CREATED


def _text(script: str, tokens: list[Token]) -> str:
    end = tokens[-1].start + len(tokens[-1].text)
    return script[tokens[0].start : end] + ";"
