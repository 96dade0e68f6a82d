"""Rows known by what they ask, so that one that moved or was renamed is not taken for a new one."""

from __future__ import annotations

from pathlib import Path

from retune.data.quality.texts import write_hash
from retune.data.tables import iterate_rows
from retune.records import CleanRef


def list_contents(clean: CleanRef) -> set[str]:
    """Return the contents of the rows that are there, as manifests write them.

    Args:
        clean: The kept rows.
    """
    rows = iterate_rows(clean.folder / "index.parquet", ("folded",))
    return {write_hash(row["folded"]) for row in rows}


def read_contents(rows: Path) -> set[str]:
    """Return the contents of the rows that a version, or one before it, knows.

    Args:
        rows: The file of rows beside its manifest.
    """
    return {row["content"] for row in iterate_rows(rows, ("content",))}
