"""Which rows are dropped, and why: the recipe's choice over what was found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retune.data.quality.copies import Repeats
from retune.data.quality.looking import Facts
from retune.data.quality.mixing import choose_rows, count_by_weight
from retune.data.stages import CleanSettings

BAD_ROW = "bad row"
REASONS = (
    "kept",
    "conflicting label",
    "exact duplicate",
    "folded duplicate",
    "near duplicate",
    "left out by weight",
)
_KEPT, _CONFLICT, _EXACT, _FOLDED, _NEAR, _WEIGHT = range(len(REASONS))
_DROPPED_KINDS = {
    "none": (),
    "exact": (_EXACT,),
    "folded": (_FOLDED, _EXACT),
    "near": (_NEAR, _FOLDED, _EXACT),
}
Reasons = NDArray[np.int8]


def drop_rows(
    facts: Facts, copies: Repeats, conflicts: NDArray[np.bool_], settings: CleanSettings
) -> Reasons:
    """Give each row the reason it is dropped for.

    Args:
        facts: All rows.
        copies: What each row repeats.
        conflicts: Rows whose text stands with two labels.
        settings: What the recipe wants dropped.

    Returns:
        Places in `REASONS`, 0 for kept rows. The first of several copies is never dropped as a
        copy, and a near copy of a row that is dropped for its label stays.
    """
    reasons = np.zeros(len(facts), dtype=np.int8)
    conflicting = conflicts & settings.drop_conflicting_labels
    repeated = {_EXACT: copies.exact, _FOLDED: copies.folded, _NEAR: copies.near}
    for kind in _DROPPED_KINDS[settings.drop_duplicates]:  # the closest kind last: it stays
        first = repeated[kind]
        reasons[(first >= 0) & ~conflicting[first]] = kind
    reasons[conflicting] = _CONFLICT
    return reasons


def leave_out_by_weight(
    facts: Facts,
    reasons: Reasons,
    weights: Sequence[float | None],
    draws: NDArray[np.uint64],
) -> None:
    """Leave rows out until the sources' shares hold; held-out rows always stay.

    Args:
        facts: All rows.
        reasons: Changed here: kept rows that are too many.
        weights: One per source; None in all: nothing is left out.
        draws: Hash of each row's key, which decides who stays.
    """
    mixed = [source for source, weight in enumerate(weights) if weight is not None]
    kept = [np.flatnonzero((facts.source == source) & (reasons == _KEPT)) for source in mixed]
    counts = count_by_weight([rows.size for rows in kept], [weights[s] or 0.0 for s in mixed])
    for rows, count in zip(kept, counts, strict=True):
        reasons[rows[~choose_rows(draws[rows], count)]] = _WEIGHT
