"""How far a classifier's probabilities can be trusted.

- `ece` (expected calibration error, Naeini 2015, top label): rows are put into 10 bins of equal
  width by their largest probability c, bin b holding b/10 <= c < (b+1)/10 and the last one c = 1
  too; ECE = sum over bins of (rows in bin / rows) |share right - mean c| = sum over bins of
  |sum of (right - c)| / rows. In [0, 1], lower is better. Resamples have a larger ECE than the rows
  themselves (chance never cancels), so the interval is widened to hold the figure.
- `brier`: mean over rows of the sum over labels of (probability - 1 where gold)2, in [0, 2]; halved
  for two labels, [0, 1], as is usual. Lower is better.
- `brier_of_top`: mean of (c - right)2, in [0, 1]; lower is better.

Right means that the label with the largest probability (the first of equals) is the gold one, also
where the prediction was made otherwise. Rows without probabilities (all NaN) are left out.
Intervals: bootstrap over rows or groups. Agrees with sklearn.metrics.brier_score_loss;
scikit-learn and `evaluate` have no ECE, which is checked against its definition.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from retune.errors import ScoringError
from retune.scoring.classification.metrics import NOTHING, Numbers
from retune.scoring.uncertainty.estimates import Estimate, bootstrap_interval
from retune.scoring.uncertainty.resampling import (
    RESAMPLES,
    Floats,
    Statistic,
    count_groups,
    ratio_of_sums,
    sum_exactly,
)

BINS = 10
NAMES = ("ece", "brier", "brier_of_top")
_SUM_TOLERANCE = 1e-3  # what probabilities in half precision miss by


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Compute the ECE of the top label, as the module defines it.

    Args:
        confidence: Largest probability per row, at least one.
        correct: Whether that label is right.

    Returns:
        The error in [0, 1].

    Example:
        At 0.9 one of two rows is right, at 0.6 both: (|1 - 1.8| + |2 - 1.2|) / 4 = 0.4.

        >>> round(expected_calibration_error([0.9, 0.9, 0.6, 0.6], [1, 0, 1, 1]), 12)
        0.4
    """
    table = _tabulate_gaps(np.asarray(confidence, np.float64), np.asarray(correct, np.float64))
    return float(_ece(sum_exactly(table)))


def estimate_calibration(
    gold: Numbers,
    probabilities: Floats,
    *,
    groups: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Estimate]:
    """Estimate ECE and Brier scores.

    Args:
        gold: Numbers of labels, one per row.
        probabilities: Shape ``(rows, labels)``, as `check_probabilities` returns it; a row of NaN
            is left out.
        groups: What each row shares with others; None stands for itself.
        resamples: Bootstrap draws.

    Returns:
        `ece`, `brier`, `brier_of_top`; value None without rows.
    """
    kept = np.flatnonzero(~np.isnan(probabilities).any(axis=1)).tolist()
    if not kept:
        return dict.fromkeys(NAMES, NOTHING)
    shared = None if groups is None else [groups[at] for at in kept]
    gold, probabilities = gold[kept], probabilities[kept]
    confidence = probabilities.max(axis=1)
    correct = (probabilities.argmax(axis=1) == gold).astype(np.float64)

    def estimate(value: float, terms: Floats, statistic: Statistic) -> Estimate:
        if len(kept) == 1:
            return Estimate(value=value, low=None, high=None, n=1)
        low, high = bootstrap_interval(
            terms,
            statistic=statistic,
            groups=shared,
            resamples=resamples,
            limits=(0.0, 2.0 if statistic is ratio_of_sums and probabilities.shape[1] > 2 else 1.0),
        )
        return Estimate(
            value=value,
            low=min(low, value),
            high=max(high, value),
            n=len(kept),
            groups=count_groups(len(kept), shared),
        )

    squares = _brier_terms(gold, probabilities)
    ece = expected_calibration_error(confidence, correct)
    brier, of_top = _brier_scores(gold, probabilities, confidence, correct)
    return {
        "ece": estimate(ece, _tabulate_gaps(confidence, correct), _ece),
        "brier": estimate(brier, squares, ratio_of_sums),
        "brier_of_top": estimate(of_top, (confidence - correct) ** 2, ratio_of_sums),
    }


def check_probabilities(probabilities: ArrayLike, rows: int, n_labels: int) -> Floats:
    """Refuse what is not one distribution over the labels per row.

    Args:
        probabilities: Shape ``(rows, labels)``; a row of NaN has none.
        rows: Rows expected.
        n_labels: Labels expected.

    Returns:
        The probabilities as float64, each row divided by its sum (half precision misses 1).

    Raises:
        ScoringError: The shape differs, a number is outside [0, 1], or a row does not sum to 1.
    """
    table = np.asarray(probabilities, dtype=np.float64)
    if table.shape != (rows, n_labels):
        raise ScoringError(
            f"Found probabilities of shape {table.shape}; expected ({rows}, {n_labels}): one row "
            "per scored text and one column per label, in the labels' order."
        )
    sums = table.sum(axis=1)
    fine = (table >= 0).all(axis=1) & (np.abs(sums - 1) <= _SUM_TOLERANCE)
    wrong = np.flatnonzero(~fine & ~np.isnan(table).all(axis=1))
    if len(wrong):
        raise ScoringError(
            f"Found {len(wrong)} of {rows} rows whose probabilities are no distribution, the first "
            f"in row {wrong[0]}: {table[wrong[0]].tolist()}; expected numbers in [0, 1] that sum "
            "to 1. Pass a softmax, not logits; a row without probabilities is all NaN."
        )
    return np.asarray(table / sums[:, None], dtype=np.float64)


def _tabulate_gaps(confidence: Floats, correct: Floats) -> Floats:
    """One column per bin with (right - confidence), and a last one that counts rows."""
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    table = np.zeros((len(confidence), BINS + 1))
    table[np.arange(len(confidence)), bins] = correct - confidence
    table[:, BINS] = 1.0
    return table


def _ece(sums: Floats) -> Floats:
    return np.asarray(np.abs(sums[..., :BINS]).sum(axis=-1) / sums[..., BINS], dtype=np.float64)


def _brier_terms(gold: Numbers, probabilities: Floats) -> Floats:
    n_labels = probabilities.shape[1]
    squares = (probabilities - np.eye(n_labels)[gold]) ** 2
    return np.asarray(squares.sum(axis=1) / (2 if n_labels == 2 else 1), dtype=np.float64)


def _brier_scores(
    gold: Numbers, probabilities: Floats, confidence: Floats, correct: Floats
) -> tuple[float, float]:
    from sklearn.metrics import brier_score_loss

    numbers = list(range(probabilities.shape[1]))
    return (
        float(brier_score_loss(gold, probabilities, labels=numbers)),
        float(brier_score_loss(correct, confidence, labels=[0, 1], pos_label=1)),
    )
