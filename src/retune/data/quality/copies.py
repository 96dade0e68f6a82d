"""Rows that repeat an earlier row: letter by letter, folded, or nearly.

Rows to learn from are compared among themselves, and so are held-out ones: a held-out row that
repeats a training row is a leak, which another stage looks for. Only the first of rows that fold to
one text is compared nearly, and only rows that are no near copy themselves are compared with: a
thousand alike rows cost a thousand comparisons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retune.data.quality.looking import Facts
from retune.data.quality.near import NearIndex, estimate_margin, parts_similarity
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
) -> Repeats:
    """Find all rows that repeat an earlier one.

    Args:
        facts: Hashes of all rows.
        sets: Their shingles.
        near_threshold: Smallest Jaccard similarity of near copies.
        progress: Told how many rows were compared nearly.

    Returns:
        What each row repeats.
    """
    exact, folded = np.full(len(facts), -1), np.full(len(facts), -1)
    near = np.full(len(facts), -1)
    for held_out in (False, True):
        rows = np.flatnonzero(facts.held_out == held_out)
        exact[rows] = _first_places(facts.exact, rows)
        folded[rows] = _first_places(facts.folded, rows)
        _match_near(rows[folded[rows] < 0], near, sets, near_threshold, progress)
    return Repeats(exact, folded, near)


def _first_places(hashes: NDArray[np.uint64], rows: Places) -> Places:
    """Return for each row the first one with its hash, -1 for the first itself."""
    _, first, which = np.unique(hashes[rows], return_index=True, return_inverse=True)
    found = rows[first][which]
    return np.where(found == rows, -1, found)


def _match_near(
    rows: Places,
    near: Places,
    sets: ShingleSets,
    threshold: float,
    progress: Callable[[int], None],
) -> None:
    index = NearIndex(threshold)
    least = threshold - estimate_margin(threshold)
    for done, row in enumerate(rows.tolist(), 1):
        signature = np.asarray(sets.signatures[row])
        near[row] = _most_alike(row, index.query(signature), sets, threshold, least)
        if near[row] < 0:
            index.add(row, signature)
        if done % _REPORT_EVERY == 0:
            progress(row + 1)


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
