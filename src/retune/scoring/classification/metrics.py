"""Classification figures over rows, each scikit-learn's, with intervals from `counts`.

Aggregation and what is excluded: `macro_f1` (the headline) and `balanced_accuracy` are plain means
over the labels that at least one scored row has; a label without rows has no F1 (None), and is in
no mean: 0 would look like a score. `weighted_f1` weighs F1 by gold rows. `accuracy` is the share
of right rows. `mcc` is None where all golds are one label. An unparsable prediction is wrong, and a
column of its own in the confusion matrix; `labels=` is always passed, since scikit-learn would
otherwise count it as one more class. All are in [0, 1] (MCC in [-1, 1]), higher is better, except
`unparsable_rate`, where lower is better.

Intervals (95 %): Wilson for rates; bootstrap over rows, or over groups, for the others.
The bootstrap has no width where every row is right or wrong alike, which is not certainty: read
accuracy's beside it.

Agrees with sklearn.metrics f1_score, balanced_accuracy_score, matthews_corrcoef and
confusion_matrix. Not with `evaluate`: version 0.4.6 brings no metric's code along and fetches each
from the hub, which a run without network cannot; its F1 and MCC only call scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from retune.scoring.classification.counts import (
    STATISTICS,
    UNPARSABLE,
    f1_by_label,
    tabulate_counts,
)
from retune.scoring.classification.records import ClassScores
from retune.scoring.uncertainty.estimates import Estimate, estimate_rate
from retune.scoring.uncertainty.resampling import (
    RESAMPLES,
    Floats,
    count_groups,
    interval_of,
    resample_sums,
    sum_by_group,
    weigh_units,
)

Numbers = NDArray[np.int64]
NOTHING = Estimate(value=None, low=None, high=None, n=0)
LIMITS = {name: (-1.0 if name == "mcc" else 0.0, 1.0) for name in STATISTICS}


def confusion_counts(gold: Numbers, predicted: Numbers, n_labels: int) -> NDArray[np.int64]:
    """Count how often each label was predicted for each gold label.

    Args:
        gold: Numbers of labels.
        predicted: Likewise; `UNPARSABLE` where there is none.
        n_labels: Labels.

    Returns:
        Shape ``(labels, labels + 1)``; the last column is unparsable.
    """
    if not len(gold):
        return np.zeros((n_labels, n_labels + 1), dtype=np.int64)
    from sklearn.metrics import confusion_matrix

    numbers = list(range(n_labels + 1))
    counts = confusion_matrix(gold, _as_class(predicted, n_labels), labels=numbers)
    return np.asarray(counts[:n_labels], dtype=np.int64)


def compute_figures(gold: Numbers, predicted: Numbers, n_labels: int) -> dict[str, float | None]:
    """Compute the figures of one model without their intervals.

    Args:
        gold: Numbers of labels, at least one.
        predicted: Likewise; `UNPARSABLE` where there is none.
        n_labels: Labels.

    Returns:
        By name, as in `counts.STATISTICS`; None where undefined.

    Example:
        Of three golds 0 and one gold 1, predicted 0, 0, 1 and 1: F1 of 0 is 2 * 2 / (3 + 2) = 0.8,
        of 1 2 * 1 / (1 + 2) = 0.667, and macro F1 their mean.

        >>> found = compute_figures(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2)
        >>> round(found["macro_f1"], 4), found["accuracy"]
        (0.7333, 0.75)
    """
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, recall_score

    answers = _as_class(predicted, n_labels)
    present = sorted({int(number) for number in gold})
    averaged = {"labels": present, "zero_division": 0.0}
    return {
        "macro_f1": float(f1_score(gold, answers, average="macro", **averaged)),
        "weighted_f1": float(f1_score(gold, answers, average="weighted", **averaged)),
        "accuracy": float(accuracy_score(gold, answers)),
        # That is balanced_accuracy_score, which warns of predicted labels without rows.
        "balanced_accuracy": float(recall_score(gold, answers, average="macro", **averaged)),
        "mcc": float(matthews_corrcoef(gold, answers)) if len(present) > 1 else None,
    }


def estimate_figures(
    gold: Numbers,
    predicted: Numbers,
    labels: Sequence[str],
    *,
    groups: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
) -> tuple[dict[str, Estimate], tuple[ClassScores, ...]]:
    """Estimate all figures and each label's, from one set of resamples.

    Args:
        gold: Numbers of labels, one per scored row.
        predicted: Likewise; `UNPARSABLE` where there is none.
        labels: The labels' names.
        groups: What each row shares with others; None stands for itself.
        resamples: Bootstrap draws.

    Returns:
        Estimates by name, and one record per label. All values are None without rows.

    Raises:
        ScoringError: There are not as many groups as rows.
    """
    n = len(gold)
    if not n:
        nothing = dict.fromkeys((*STATISTICS, "unparsable_rate"), NOTHING)
        return nothing, tuple(_describe_unseen(label) for label in labels)
    table = tabulate_counts(gold, predicted, len(labels))
    units = sum_by_group(table, groups)
    drawn = resample_sums(units, resamples=resamples)
    values = compute_figures(gold, predicted, len(labels))
    found, weight = count_groups(n, groups), weigh_units(n, groups)
    estimates = {
        name: with_interval(values[name], statistic(drawn), n, weight, found, LIMITS[name])
        for name, statistic in STATISTICS.items()
    }
    rates = {"accuracy": gold == predicted, "unparsable_rate": predicted == UNPARSABLE}
    for name, outcomes in rates.items():
        estimates[name] = estimate_rate(outcomes.tolist(), groups=groups, resamples=resamples)
    # A label is seen only in those groups that have it, or were said to.
    _, gold_of, predicted_of = np.split(units > 0, 3, axis=1)
    seen = (gold_of | predicted_of).sum(axis=0).tolist()
    drawn_f1 = f1_by_label(drawn)

    def estimate_f1(at: int, value: float | None) -> Estimate:
        return with_interval(value, drawn_f1[:, at], n, min(weight, seen[at]), found)

    return estimates, _describe_classes(gold, predicted, labels, estimate_f1)


def with_interval(
    value: float | None,
    drawn: Floats,
    n: int,
    units: float,
    groups: int | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """Put the percentile interval of resampled figures beside a figure.

    Args:
        value: The figure; None where it is undefined.
        drawn: The figure of each resample; NaN where undefined.
        n: Rows.
        units: Independent ones of them or of their groups, as `weigh_units` counts them.
        groups: Independent groups that the rows fall into, as `count_groups` counts them.
        limits: What the figure can be.

    Returns:
        The estimate; without an interval where no resample has the figure, or there is one row.
    """
    if value is None or n == 1 or np.isnan(drawn).all():
        return Estimate(value=value, low=None, high=None, n=n if value is not None else 0)
    low, high = interval_of(drawn, value, units, limits)
    return Estimate(value=value, low=low, high=high, n=n, groups=groups)


def _describe_classes(
    gold: Numbers,
    predicted: Numbers,
    labels: Sequence[str],
    estimate_f1: Callable[[int, float | None], Estimate],
) -> tuple[ClassScores, ...]:
    from sklearn.metrics import precision_recall_fscore_support

    numbers = list(range(len(labels)))
    columns = precision_recall_fscore_support(
        gold, _as_class(predicted, len(labels)), labels=numbers, zero_division=np.nan
    )
    return tuple(
        ClassScores(
            label=labels[at],
            support=int(support),
            predicted=int((predicted == at).sum()),
            precision=_none_if_nan(precision),
            recall=_none_if_nan(recall),
            # scikit-learn has F1 = 0 for a label that no row has but that was predicted.
            f1=estimate_f1(at, float(f1) if support else None),
        )
        for at, (precision, recall, f1, support) in enumerate(zip(*columns, strict=True))
    )


def _describe_unseen(label: str) -> ClassScores:
    return ClassScores(label=label, support=0, predicted=0, precision=None, recall=None, f1=NOTHING)


def _as_class(predicted: Numbers, n_labels: int) -> Numbers:
    """Number unparsable predictions behind the labels: scikit-learn's order is that of numbers."""
    return np.where(predicted == UNPARSABLE, n_labels, predicted)


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
