"""Rows that repeat an earlier row: letter by letter, folded, or nearly.

Rows to learn from are compared among themselves, and so are held-out ones: a held-out row that
repeats a training row is a leak, which another stage looks for. Only the first of rows that fold to
one text is compared nearly, and only rows that are no near copy themselves are compared with: a
thousand alike rows cost a thousand comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retune.data.columns.contract import Columns, Flags
from retune.data.quality.looking import Facts
from retune.data.quality.near import estimate_margin, parts_similarity
from retune.data.quality.near_indexes import open_near_index
from retune.data.quality.shingle_sets import ShingleSets

_REPORT_EVERY = 2048
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Repeats:
    """For each row the place of the earlier row that it repeats; -1 for none."""

    exact: Places
    folded: Places
    """Exact copies have one, too."""
    near: Places
    """Folded copies have none."""


def find_repeats(
    facts: Facts,
    sets: ShingleSets,
    near_threshold: float,
    progress: Callable[[int], None],
    joined: Callable[[int, int], None],
) -> Repeats:
    """Find all rows that repeat an earlier one.

    Args:
        facts: Hashes of all rows.
        sets: Their shingles.
        near_threshold: Smallest Jaccard similarity of near copies.
        progress: Told how many rows were compared nearly.
        joined: Told how many bands of an index on disk are made, and of how many.

    Returns:
        What each row repeats.
    """
    columns = facts.columns
    exact = columns.first_places(facts.exact, facts.held_out)
    folded = columns.first_places(facts.folded, facts.held_out)
    near = columns.absent(len(facts))
    least = near_threshold - estimate_margin(near_threshold)
    for held_out in (False, True):
        index = open_near_index(near_threshold, columns, joined)
        signed = _signed_rows(folded, facts.held_out, held_out, sets, columns)
        for done, (row, bands) in enumerate(index.walk(signed), 1):
            near[row] = _most_alike(row, index.query(bands), sets, near_threshold, least)
            if near[row] < 0:
                index.add(row, bands)
            if done % _REPORT_EVERY == 0:
                progress(row + 1)
                columns.release()
                sets.release()
    return Repeats(exact, folded, near)


def _signed_rows(
    folded: Places, held_out: Flags, wanted: bool, sets: ShingleSets, columns: Columns
) -> Iterator[tuple[Places, NDArray[np.uint32]]]:
    """Yield the rows that are no folded copies, with their signatures, a piece at a time."""
    for start in range(0, len(folded), _REPORT_EVERY):
        block = slice(start, start + _REPORT_EVERY)
        rows = np.flatnonzero((held_out[block] == wanted) & (folded[block] < 0))
        yield rows + start, sets.signatures[block][rows]
        columns.release()
        sets.release()


def _most_alike(
    row: int, candidates: list[int], sets: ShingleSets, threshold: float, least: float
) -> int:
    """Return a candidate that is as alike as the threshold asks, the likeliest first; else -1."""
    if not candidates:
        return -1
    agree = np.asarray(sets.signatures[candidates]) == np.asarray(sets.signatures[row])
    estimates: list[float] = agree.mean(axis=1).tolist()
    own = sets.read(row)
    for place in sorted(range(len(candidates)), key=lambda place: -estimates[place]):
        if estimates[place] < least:
            break
        if parts_similarity(own, sets.read(candidates[place])) >= threshold:
            return candidates[place]
    return -1
