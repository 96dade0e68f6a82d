"""The CREATE statements of an SQL script: what a prompt shows of a database."""

from __future__ import annotations

from retune.errors import DataError
from retune.sql.lexing import read_creations


def create_statements(script: str) -> str:
    """Take the CREATE TABLE and CREATE VIEW statements out of a script.

    Args:
        script: SQL, which may fill the tables as well.

    Returns:
        The statements as they stand, one below the other; empty where there is none.
    """
    return "\n".join(f"{creation.text};" for creation in read_creations(script))


def describe_database(name: str, script: str, *, absent: str) -> dict[str, str]:
    """Make the entry of a database from the SQL that makes it.

    Args:
        name: Its name.
        script: SQL that creates and fills it.
        absent: What is said where it creates no table.

    Returns:
        A row of `databases.parquet`, such as `{"db_id": "shop", "schema": "CREATE TABLE t (a);",
        "context": "CREATE TABLE t (a); INSERT INTO t VALUES (1);"}`.

    Raises:
        DataError: The SQL creates no table.
    """
    schema = create_statements(script)
    if not schema:
        raise DataError(absent)
    return {"db_id": name, "schema": schema, "context": script}
