"""Two models' figures on the same rows, as one paired difference: challenger minus opponent.

Rows are paired by their ids, whatever their order. Models with other tokens may have kept other
rows (one that is too long for one of them): then the rows of both are compared, as long as those
are nearly all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

from retune.errors import ScoringError
from retune.score_records import ModelScores, PairedDifference, ScoreReport
from retune.scoring.classification.comparison import compare_classifications
from retune.scoring.classification.records import ClassificationOutcome
from retune.scoring.figures import column_of, figure_behind, figure_of
from retune.scoring.free_text.corpus_bleu import bleu_of_sums
from retune.scoring.outcomes import read_outcomes
from retune.scoring.uncertainty.paired import paired_difference
from retune.scoring.uncertainty.resampling import ALPHA, SEED, bits_of_ratio, exp_of_ratio

_OF_SUMS = {
    "exp_of_ratio": exp_of_ratio,
    "bits_of_ratio": bits_of_ratio,
    "bleu": bleu_of_sums,
}
_SHARED_AT_LEAST = 0.95
"""Part of the rows that both models have to have been asked."""

Row = dict[str, Any]
Rows = Sequence[Row]


def pair_metric(
    metric: str,
    challenger: ScoreReport,
    opponent: ScoreReport,
    resamples: int,
    alpha: float = ALPHA,
    *,
    against_margin: bool = False,
    seed: int = SEED,
) -> PairedDifference:
    """Compare one metric of two models on the rows that both scored.

    Args:
        metric: A figure that is compared over rows, texts, cases or changes of questions; of cases
            also of one category, behind a dot.
        challenger: The report that holds it, of the tuned model.
        opponent: The same of the other.
        resamples: Bootstrap draws.
        alpha: Chance that the interval misses the difference.
        against_margin: Whether the interval alone decides, as in `paired_difference`.
        seed: Of the draws.

    Returns:
        Challenger minus opponent.

    Raises:
        ScoringError: The reports are not over the same rows.
    """
    rows = pair_rows(metric, challenger, opponent)
    return compare_rows(metric, rows, resamples, alpha, against_margin=against_margin, seed=seed)


def compare_rows(
    metric: str,
    rows: tuple[Rows, Rows],
    resamples: int,
    alpha: float = ALPHA,
    *,
    only: Collection[str] | None = None,
    against_margin: bool = False,
    seed: int = SEED,
) -> PairedDifference:
    """Compare one metric of two models on rows of `pair_rows`.

    Args:
        metric: As in `pair_metric`.
        rows: The challenger's and the opponent's.
        resamples: Bootstrap draws.
        alpha: Chance that the interval misses the difference.
        only: Ids of the rows that are compared; None for all.
        against_margin: Whether the interval alone decides, as in `paired_difference`.
        seed: Of the draws.

    Returns:
        Challenger minus opponent.
    """
    ours, theirs = rows
    category = metric.removeprefix(figure_behind(metric).name).removeprefix(".")
    kept = [
        at
        for at, row in enumerate(ours)
        if (only is None or row["row_id"] in only) and (not category or row["group"] == category)
    ]
    ours, theirs = [ours[at] for at in kept], [theirs[at] for at in kept]
    shared: dict[str, Any] = {"resamples": resamples, "alpha": alpha, "seed": seed}
    return _compare(metric, ours, theirs, against_margin=against_margin, **shared)


def pair_rows(metric: str, challenger: ScoreReport, opponent: ScoreReport) -> tuple[Rows, Rows]:
    """Return the rows of two reports that both have, in the challenger's order.

    Args:
        metric: What is compared, for the message.
        challenger: A report of the tuned model.
        opponent: The same of the other.

    Raises:
        ScoringError: The reports are not over the same rows.
    """
    ours, theirs = read_outcomes(challenger), read_outcomes(opponent)
    by_id = {row["row_id"]: row for row in theirs}
    shared = [row for row in ours if row["row_id"] in by_id]
    if len(shared) < _SHARED_AT_LEAST * max(len(ours), len(theirs)):
        raise ScoringError(
            f"{metric}: challenger and opponent were not scored on the same rows "
            f"({len(ours)} and {len(theirs)}, of which both have {len(shared)}). Score both with "
            "one recipe."
        )
    return shared, [by_id[row["row_id"]] for row in shared]


def gain_by_row(metric: str, rows: tuple[Rows, Rows]) -> dict[str, float]:
    """Return by how much the challenger is better on each row, whichever way is good.

    Args:
        metric: A figure over rows; of one that is made of sums, the first of them is compared.
        rows: The challenger's and the opponent's, as `pair_rows` gives them.

    Returns:
        By id, of the rows that both scored; below zero where the challenger is worse.
    """
    figure = figure_of(metric)
    field, sign = column_of(figure), -1 if figure.lower_is_better else 1
    pairs = {one["row_id"]: (one[field], other[field]) for one, other in zip(*rows, strict=True)}
    return {
        row_id: sign * (ours - theirs)
        for row_id, (ours, theirs) in pairs.items()
        if ours is not None and theirs is not None
    }


def count_same_tokens(challenger: ModelScores, opponent: ModelScores) -> bool:
    """Tell whether figures per token of two models have a common scale.

    Args:
        challenger: The tuned model's scores.
        opponent: The other's.

    Returns:
        Whether both parted each answer into as many tokens; true where nothing was counted.

    Raises:
        ScoringError: The reports are not over the same rows.
    """
    ours, theirs = challenger.report_of("perplexity"), opponent.report_of("perplexity")
    if ours is None or theirs is None:
        return True
    pairs = zip(*pair_rows("perplexity", ours, theirs), strict=True)
    counts = ((one["tokens"], other["tokens"]) for one, other in pairs)
    return all(one == other for one, other in counts if one is not None and other is not None)


def _compare(metric: str, ours: Rows, theirs: Rows, **shared: Any) -> PairedDifference:
    figure = figure_behind(metric)
    if figure.statistic == "macro_f1" and ours:
        return _pair_macro_f1(ours, theirs, **shared)
    shared |= {"groups": _groups_of(figure.over, ours), "direction": figure.direction}
    if figure.statistic in _OF_SUMS:
        sums = [[[row[name] for name in figure.columns] for row in side] for side in (ours, theirs)]
        return paired_difference(*sums, statistic=_OF_SUMS[figure.statistic], **shared)
    number = _won if figure.of_pairs else _number
    values = [[number(row[figure.name]) for row in side] for side in (ours, theirs)]
    return paired_difference(*values, **shared)


def _groups_of(over: str | None, rows: Rows) -> list[str | None] | None:
    if over == "cases":
        # A case's category is what it is about, not a source that makes answers alike.
        return None
    if over != "changes":
        return [row["group"] for row in rows]
    # All changes of one question stand or fall together, also where rows share nothing.
    alone = len({row["group"] for row in rows}) == 1
    return [
        str(row["row_id"]).rpartition("/")[0] if alone or row["group"] is None else row["group"]
        for row in rows
    ]


def _pair_macro_f1(ours: Rows, theirs: Rows, **shared: Any) -> PairedDifference:
    # Classes that no held-out row has are predicted all the same; they are in no average.
    named = {row[field] for row in chain(ours, theirs) for field in ("gold", "predicted")}
    return compare_classifications(
        [_outcome(row) for row in ours],
        [_outcome(row) for row in theirs],
        labels=sorted(named - {None}),
        **shared,
    )["macro_f1"]


def _outcome(row: Mapping[str, Any]) -> ClassificationOutcome:
    return ClassificationOutcome(
        row_id=row["row_id"],
        group=row["group"],
        gold=row["gold"],
        predicted=row["predicted"],
        correct=row["accuracy"],
    )


def _won(value: float | None) -> float:
    # A tie is a row that neither won: half of it on both sides is the same difference, but would
    # be no yes or no, whose test and interval are exact.
    return math.nan if value is None else float(value == 1)


def _number(outcome: bool | float | None) -> float:
    return math.nan if outcome is None else float(outcome)
