"""The CREATE statements of an SQL script: what a prompt shows of a database."""

from __future__ import annotations

from retune.scoring.sql.lexing import read_creations


def create_statements(script: str) -> str:
    """Take the CREATE TABLE and CREATE VIEW statements out of a script.

    Args:
        script: SQL, which may fill the tables as well.

    Returns:
        The statements as they stand, one below the other; empty where there is none.
    """
    return "\n".join(f"{creation.text};" for creation in read_creations(script))
