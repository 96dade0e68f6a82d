"""The rows that served requests are compared with: some of a side, drawn by seed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retune.data.parts.row_history import LEARNED, Part, read_row_history
from retune.data.quality.texts import write_hash
from retune.data.tables import iterate_rows
from retune.records import SideRef, SplitRef
from retune.retraining.drift_records import View

_COLUMN: dict[View, str] = {"prompt": "prompt", "question": "question", "text": "answer"}
_ASKED: tuple[Part, ...] = ("test",)


class KnownRow(NamedTuple):
    """One row as it is compared."""

    text: str
    label: str | None
    group: str | None


def find_trained(split: SplitRef, history: Path | None) -> frozenset[str] | None:
    """Return the ids of the training rows that a champion was trained on, or one before it.

    Args:
        split: Rows of the recipe by side.
        history: Rows of the champion's manifest (`HISTORY_SCHEMA`); None where it has none.

    Returns:
        Ids; None where all count: nothing is known of the champion's rows, or none of them is
        there any more.
    """
    return _find_rows(split.folder / "train.parquet", history, LEARNED)


def find_asked(split: SplitRef, history: Path | None) -> frozenset[str] | None:
    """Return the ids of the test rows that a champion was promoted on.

    Arguments and result as those of `find_trained`.
    """
    return _find_rows(split.folder / "test.parquet", history, _ASKED)


def _find_rows(index: Path, history: Path | None, sides: Collection[Part]) -> frozenset[str] | None:
    if history is None:
        return None
    contents = read_row_history(history).contents
    known = frozenset().union(*(contents[side] for side in sides))
    rows = iterate_rows(index, ("row_id", "folded"))
    return frozenset(row["row_id"] for row in rows if write_hash(row["folded"]) in known) or None


def draw_rows(
    side: SideRef, view: View, most: int, seed: int, ids: frozenset[str] | None = None
) -> list[KnownRow]:
    """Return the rows of a side, or as many as are enough.

    Args:
        side: Chats.
        view: What of a row is compared.
        most: Most rows; of more, that many are drawn.
        seed: Of the draw.
        ids: Of the rows that count; None: all.

    Returns:
        Rows in the order of the side.
    """
    path, column = side.folder / "rows.parquet", _COLUMN[view]
    names = [row["row_id"] for row in iterate_rows(path, ("row_id",))]
    places = np.array([at for at, name in enumerate(names) if ids is None or name in ids])
    if len(places) > most:
        places = np.random.default_rng(seed).choice(places, most, replace=False)
    chosen = frozenset(places.tolist())
    rows = enumerate(iterate_rows(path, (column, "label", "group")))
    return [KnownRow(row[column], row["label"], row["group"]) for at, row in rows if at in chosen]
