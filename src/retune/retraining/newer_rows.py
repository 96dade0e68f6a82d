"""Stage `leave_out_known`: newer rows without those that the champion was trained or judged by.

A row is known by what it asks, folded (`folded` of the index): a copy with another accent, or with
another answer, is no newer row. What the champion knows is told by the rows of its manifest where
it has one; else by the sides of the recipe. Those may have rows that it has not seen, which are
left out in vain, but nothing that it was trained on is taken for new.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from retune.data.parts.row_history import read_row_history
from retune.data.parts.splitting import SIDES, copy_rows
from retune.data.quality.texts import write_hash
from retune.data.tables import iterate_rows
from retune.digests import digest_folder
from retune.records import SplitRef
from retune.retraining.stages import KnownInputs
from retune.spine.stage import Workdir


def leave_out_known(inputs: KnownInputs, work: Workdir) -> SplitRef:
    """Leave out the rows that the champion knows.

    Args:
        inputs: Newer rows, and what the champion knows.
        work: `<side>.parquet` goes to its artifact folder.

    Returns:
        The rows that are left as all three sides, since chats are made by side; which one is asked
        makes no difference. No row is left where the champion knows them all.
    """
    known = frozenset(iterate_known(inputs.split, inputs.history.path if inputs.history else None))
    index = inputs.newer.folder / "index.parquet"
    rows = iterate_rows(index, ("folded",))
    new = np.array([write_hash(row["folded"]) not in known for row in rows], dtype=bool)
    for side in SIDES:
        copy_rows(index, work.artifact / f"{side}.parquet", new.__getitem__)
    count = int(new.sum())
    return SplitRef(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        train=count,
        validation=count,
        test=count,
        groups_shared=0,
    )


def iterate_known(split: SplitRef, history: Path | None) -> Iterator[str]:
    """Yield the contents that a champion knows, as 16 hexadecimal digits.

    Args:
        split: Rows of the recipe by side.
        history: Rows of the champion's manifest (`HISTORY_SCHEMA`); None where it has none.
    """
    if history is not None:
        for part, contents in read_row_history(history).contents.items():
            if part != "left_out":
                yield from contents
        return
    for side in SIDES:
        for row in iterate_rows(split.folder / f"{side}.parquet", ("folded",)):
            yield write_hash(row["folded"])
