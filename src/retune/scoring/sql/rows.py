"""Held-out rows as `score_queries` takes them: the reference query, and where it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retune.data.tables import read_rows
from retune.records import SideRef
from retune.sql.records import SqlRow


def read_sql_rows(rows: Sequence[Mapping[str, Any]], side: SideRef) -> list[SqlRow]:
    """Put rows together with the databases of their side.

    Args:
        rows: Of the side's `rows.parquet`.
        side: Its `databases.parquet` is read.

    Returns:
        One row to score per row; without a context where it names no database.
    """
    databases = {
        row["db_id"]: {"schema": row["schema"], "context": row["context"]}
        for row in read_rows(side.folder / "databases.parquet")
    }
    nothing = {"schema": "", "context": None}
    return [
        SqlRow(
            row_id=row["row_id"],
            group=row["group"],
            gold=row["answer"],
            **databases.get(row["db_id"], nothing),
        )
        for row in rows
    ]
