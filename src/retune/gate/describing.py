"""What the gate found, as text for people."""

from __future__ import annotations

from retune.score_records import FigureDifference
from retune.scoring.showing import FEW_GROUPS, label_of, show_difference
from retune.scoring.uncertainty.exchanging import fewest_units
from retune.scoring.uncertainty.resampling import ALPHA


def describe(difference: FigureDifference, against: str) -> str:
    """Write a difference in one line, with what its interval rests on where that is little.

    Args:
        difference: Challenger minus opponent.
        against: Who the opponent is.

    Returns:
        The line.
    """
    found = difference
    if found.difference is None or found.low is None or found.high is None:
        return f"{label_of(found.metric)} could not be compared with the {against}"
    line = (
        f"{label_of(found.metric)} {show_difference(found)} against the {against} on {found.n} rows"
    )
    note = note_groups(found.groups, found.alpha)
    return f"{line} {note}" if note else line


def note_groups(groups: int | None, alpha: float = ALPHA) -> str:
    """Say what an interval over few groups is worth; empty where there are enough.

    Args:
        groups: Independent groups of the rows, as in `Metric`.
        alpha: Level of what is decided on them: the smaller it is, the more groups it takes.

    Returns:
        The end of a sentence on rows.
    """
    needed = fewest_units(alpha)
    if groups is None or groups >= max(FEW_GROUPS, needed):
        return ""
    if groups == 1:
        return "that all share one group: it speaks of that group alone"
    few = f"in {groups} groups: intervals over so few are too narrow"
    if groups >= needed:
        return few
    return f"{few}, and under {needed} decide nothing; hold out rows of more groups"
