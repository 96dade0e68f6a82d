"""Which rows are dropped, and why: the recipe's choice over what was found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retune.data.columns.contract import ABSENT
from retune.data.quality.copies import Repeats
from retune.data.quality.looking import Facts
from retune.data.quality.mixing import count_by_weight
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
    reasons: Reasons = facts.columns.zeros(len(facts), np.int8)
    wanted = settings.drop_conflicting_labels
    repeated = {_EXACT: copies.exact, _FOLDED: copies.folded, _NEAR: copies.near}
    for block in facts.columns.blocks(len(facts)):
        for kind in _DROPPED_KINDS[settings.drop_duplicates]:  # the closest kind last: it stays
            first = repeated[kind][block]
            reasons[block][(first >= 0) & ~(conflicts[first] & wanted)] = kind
        reasons[block][conflicts[block] & wanted] = _CONFLICT
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
    columns = facts.columns
    mixed = [source for source, weight in enumerate(weights) if weight is not None]
    number = np.full(len(weights), ABSENT, np.int64)
    number[mixed] = np.arange(len(mixed))
    classes = columns.absent(len(facts))
    sizes = np.zeros(len(mixed), np.int64)
    for block in columns.blocks(len(facts)):
        classes[block] = np.where(reasons[block] == _KEPT, number[facts.source[block]], ABSENT)
        sizes += np.bincount(classes[block][classes[block] >= 0], minlength=len(mixed))
    counts = count_by_weight(sizes.tolist(), [weights[source] or 0.0 for source in mixed])
    chosen = columns.choose_lowest(draws, classes, counts)
    for block in columns.blocks(len(facts)):
        reasons[block][(classes[block] >= 0) & ~chosen[block]] = _WEIGHT
