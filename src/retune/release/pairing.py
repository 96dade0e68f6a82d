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
from retune.scoring.outcomes import read_outcomes
from retune.scoring.resampling import bits_of_ratio, exp_of_ratio
from retune.scoring.uncertainty import Direction, PairedDifference, paired_difference

DIRECTIONS: Mapping[str, Direction] = {
    "sql_execution_match": "higher_is_better",
    "sql_exact_match": "higher_is_better",
    "macro_f1": "higher_is_better",
    "accuracy": "higher_is_better",
    "perplexity": "lower_is_better",
    "bits_per_byte": "lower_is_better",
    "general_text_bits_per_byte": "lower_is_better",
    "probe_pass_rate": "higher_is_better",
}
"""The metrics that can be compared, and which way is good."""

_RATIOS = {
    "perplexity": ("nll_sum_nats", "tokens", exp_of_ratio),
    "bits_per_byte": ("text_nll_nats", "answer_bytes", bits_of_ratio),
    "general_text_bits_per_byte": ("nll_sum_nats", "bytes", bits_of_ratio),
}

Rows = Sequence[Mapping[str, Any]]


def pair_metric(
    metric: str, challenger: ScoreReport, opponent: ScoreReport, resamples: int
) -> PairedDifference:
    """Compare one metric of two models on the rows that both scored.

    Args:
        metric: A name of `DIRECTIONS`.
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
    if metric == "macro_f1" and ours:
        return _pair_macro_f1(ours, theirs, resamples)
    # A probe's category is what it is about, not a source that makes answers alike.
    groups = None if metric == "probe_pass_rate" else [row["group"] for row in ours]
    if metric in _RATIOS:
        above, below, statistic = _RATIOS[metric]
        pairs = [[(row[above], row[below]) for row in side] for side in (ours, theirs)]
        return paired_difference(
            pairs[0],
            pairs[1],
            direction=DIRECTIONS[metric],
            statistic=statistic,
            groups=groups,
            resamples=resamples,
        )
    values = [[_number(row[metric]) for row in side] for side in (ours, theirs)]
    return paired_difference(
        values[0], values[1], direction=DIRECTIONS[metric], groups=groups, resamples=resamples
    )


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
