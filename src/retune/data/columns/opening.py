"""Where columns lie: one number of rows decides."""

from __future__ import annotations

from pathlib import Path

from retune.data.columns.contract import Columns
from retune.data.columns.in_memory import ColumnsInMemory


def open_columns(rows: int, most_in_memory: int, folder: Path) -> Columns:
    """Return where the columns of some rows lie; the answers are the same.

    Args:
        rows: How many rows there are.
        most_in_memory: Most rows whose columns are held in memory.
        folder: Where they lie on disk, if they do.

    Raises:
        OSError: The folder cannot be made.
    """
    if rows <= most_in_memory:
        return ColumnsInMemory()
    # Only now: few runs need the library, and importing it takes half a second.
    from retune.data.columns.on_disk import ColumnsOnDisk

    return ColumnsOnDisk(folder)
