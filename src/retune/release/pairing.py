"""Two models' figures on the same rows, as one paired difference: challenger minus opponent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from retune.errors import ScoringError
from retune.records import ScoreReport
from retune.scoring.classification.comparison import compare_classifications
from retune.scoring.classification.records import ClassificationOutcome
from retune.scoring.figures import FIGURES
from retune.scoring.outcomes import read_outcomes
from retune.scoring.resampling import bits_of_ratio, exp_of_ratio
from retune.scoring.uncertainty import PairedDifference, paired_difference

_RATIOS = {"exp_of_ratio": exp_of_ratio, "bits_of_ratio": bits_of_ratio}

Rows = Sequence[Mapping[str, Any]]


def pair_metric(
    metric: str, challenger: ScoreReport, opponent: ScoreReport, resamples: int
) -> PairedDifference:
    """Compare one metric of two models on the rows that both scored.

    Args:
        metric: A figure that is compared over rows, texts or cases.
        challenger: The report that holds it, of the tuned model.
        opponent: The same of the other.
        resamples: Bootstrap draws.

    Returns:
        Challenger minus opponent.

    Raises:
        ScoringError: The reports are not over the same rows.
    """
    ours, theirs = read_outcomes(challenger), read_outcomes(opponent)
    if [row["row_id"] for row in ours] != [row["row_id"] for row in theirs]:
        raise ScoringError(
            f"{metric}: challenger and opponent were not scored on the same rows "
            f"({len(ours)} and {len(theirs)}). Score both with one recipe."
        )
    figure = FIGURES[metric]
    if figure.statistic == "macro_f1" and ours:
        return _pair_macro_f1(ours, theirs, resamples)
    # A case's category is what it is about, not a source that makes answers alike.
    groups = None if figure.over == "cases" else [row["group"] for row in ours]
    shared: dict[str, Any] = {"groups": groups, "resamples": resamples}
    if figure.statistic in _RATIOS:
        above, below = figure.columns
        sums = [[(row[above], row[below]) for row in side] for side in (ours, theirs)]
        statistic = _RATIOS[figure.statistic]
        return paired_difference(*sums, direction=figure.direction, statistic=statistic, **shared)
    values = [[_number(row[metric]) for row in side] for side in (ours, theirs)]
    return paired_difference(*values, direction=figure.direction, **shared)


def _pair_macro_f1(ours: Rows, theirs: Rows, resamples: int) -> PairedDifference:
    # Classes that no held-out row has are predicted all the same; they are in no average.
    named = {row[field] for row in chain(ours, theirs) for field in ("gold", "predicted")}
    labels = sorted(named - {None})
    return compare_classifications(
        [_outcome(row) for row in ours],
        [_outcome(row) for row in theirs],
        labels=labels,
        resamples=resamples,
    )["macro_f1"]


def _outcome(row: Mapping[str, Any]) -> ClassificationOutcome:
    return ClassificationOutcome(
        row_id=row["row_id"],
        group=row["group"],
        gold=row["gold"],
        predicted=row["predicted"],
        correct=row["accuracy"],
    )


def _number(outcome: bool | None) -> float:
    return math.nan if outcome is None else float(outcome)
