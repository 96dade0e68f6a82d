"""Classification figures as functions of counts, so that ten thousand resamples are arithmetic.

A row adds to ``3 x labels`` counts: right, gold and predicted of each label. Summed over rows (or
over rows drawn with replacement) they give every figure here:

- F1 of a label = 2 right / (gold + predicted); recall = right / gold.
- macro F1 and balanced accuracy: plain mean over the labels that have a gold row; weighted F1: mean
  weighted by gold rows; accuracy: right / rows.
- MCC (Gorodkin's for several labels) = (c s - sum p t) / sqrt((s2 - sum p2)(s2 - sum t2)), with c
  right rows, s rows, p predicted and t gold rows of each label.

An unparsable prediction is right for no label and predicted as none; for MCC it is a label of its
own. A label without a gold row in a resample is in none of its averages, as in the figure itself.
All are in [0, 1] (MCC in [-1, 1]), higher is better. The figures themselves are scikit-learn's
(`metrics`); a test holds that these agree with them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retune.scoring.uncertainty.resampling import Floats, Statistic

UNPARSABLE = -1
"""The number of a prediction without a label."""


def tabulate_counts(gold: NDArray[np.int64], predicted: NDArray[np.int64], n_labels: int) -> Floats:
    """Make the table of counts that the statistics here understand once it is summed.

    Args:
        gold: Numbers of labels, shape ``(rows,)``.
        predicted: Likewise; `UNPARSABLE` where there is none.
        n_labels: Labels.

    Returns:
        Shape ``(rows, 3 x labels)``: right, gold and predicted of each label.
    """
    numbers = np.arange(n_labels)
    is_gold = gold[:, None] == numbers
    is_predicted = predicted[:, None] == numbers
    return np.hstack([is_gold & is_predicted, is_gold, is_predicted]).astype(np.float64)


def f1_by_label(sums: Floats) -> Floats:
    """F1 of each label, shape ``(..., labels)``; NaN where the label has no gold row."""
    right, gold, predicted = _unpack(sums)
    return _divide(2 * right, np.where(gold > 0, gold + predicted, 0.0))


def macro_f1(sums: Floats) -> Floats:
    """Mean of F1 over the labels that have a gold row."""
    return _mean_over_labels(f1_by_label(sums))


def weighted_f1(sums: Floats) -> Floats:
    """Mean of F1 weighted by gold rows."""
    gold = _unpack(sums)[1]
    weighted = np.where(gold > 0, gold * f1_by_label(sums), 0.0)
    return _divide(weighted.sum(axis=-1), gold.sum(axis=-1))


def accuracy(sums: Floats) -> Floats:
    """Share of right rows."""
    right, gold, _ = _unpack(sums)
    return _divide(right.sum(axis=-1), gold.sum(axis=-1))


def balanced_accuracy(sums: Floats) -> Floats:
    """Mean of recall over the labels that have a gold row."""
    right, gold, _ = _unpack(sums)
    return _mean_over_labels(_divide(right, gold))


def mcc(sums: Floats) -> Floats:
    """Matthews' coefficient: 0 where all predictions are one label, NaN where all golds are."""
    right, gold, predicted = _unpack(sums)
    rows, c = gold.sum(axis=-1), right.sum(axis=-1)
    unparsable = rows - predicted.sum(axis=-1)
    covariance = c * rows - (predicted * gold).sum(axis=-1)
    of_predicted = rows**2 - (predicted**2).sum(axis=-1) - unparsable**2
    of_gold = rows**2 - (gold**2).sum(axis=-1)
    found = _divide(covariance, np.sqrt(of_predicted * of_gold))
    return np.where((of_predicted == 0) & (of_gold > 0), 0.0, found)


STATISTICS: dict[str, Statistic] = {
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "mcc": mcc,
}


def number_labels(values: Sequence[str | None], labels: Sequence[str]) -> NDArray[np.int64]:
    """Return each value's place among the labels, and `UNPARSABLE` for None."""
    places: dict[str | None, int] = {label: at for at, label in enumerate(labels)}
    places[None] = UNPARSABLE
    return np.array([places[value] for value in values], dtype=np.int64)


def _unpack(sums: Floats) -> tuple[Floats, Floats, Floats]:
    right, gold, predicted = np.split(sums, 3, axis=-1)
    return right, gold, predicted


def _divide(over: Floats, under: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(under > 0, over / under, np.nan), dtype=np.float64)


def _mean_over_labels(values: Floats) -> Floats:
    # Not numpy.nanmean, which warns where a resample has no label at all.
    known = ~np.isnan(values)
    return _divide(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))
