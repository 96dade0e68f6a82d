"""Classification scores of one model: every row's outcome, and the figures over them.

The figures are those of `metrics` and `calibration`. A row is unscored where it has no gold label
(`gold_missing`), where its gold is none of the labels (`gold_not_a_label`), or where it says why
the model could not be asked; it is counted by reason and in no figure. A prediction without a label
(None) is wrong, and counted by `unparsable_rate`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from retune.errors import ScoringError
from retune.scoring.classification.calibration import check_probabilities, estimate_calibration
from retune.scoring.classification.counts import number_labels
from retune.scoring.classification.metrics import confusion_counts, estimate_figures
from retune.scoring.classification.records import (
    ClassificationOutcome,
    ClassificationRow,
    ClassificationScores,
)
from retune.scoring.uncertainty.resampling import RESAMPLES, Floats

_SHOWN = 5  # labels that an error names


def score_classification(
    rows: Sequence[ClassificationRow],
    predictions: Sequence[str | None],
    probabilities: ArrayLike | None = None,
    groups: Sequence[str | None] | None = None,
    *,
    labels: Sequence[str],
    resamples: int = RESAMPLES,
) -> ClassificationScores:
    """Score predicted labels against gold labels.

    Args:
        rows: Gold labels.
        predictions: One label per row; None where none could be read.
        probabilities: Shape ``(rows, labels)``, in the labels' order; a row of NaN has none.
        groups: What each row shares with others; None stands for itself.
        labels: All labels that the task has.
        resamples: Bootstrap draws.

    Returns:
        Outcomes in the rows' order, estimates, each label's figures, the confusion matrix.

    Raises:
        ScoringError: There are no rows, lengths differ, there are fewer than two labels or two are
            equal, a prediction is none of them, or probabilities are no distributions.
    """
    _check(rows, predictions, groups, labels)
    table = None if probabilities is None else _check_scored(rows, probabilities, labels)
    shared = groups or [None] * len(rows)
    outcomes = [
        _judge(row, predictions[at], shared[at], labels, None if table is None else table[at])
        for at, row in enumerate(rows)
    ]
    kept = [at for at, outcome in enumerate(outcomes) if outcome.correct is not None]
    gold = number_labels([rows[at].gold for at in kept], labels)
    predicted = number_labels([predictions[at] for at in kept], labels)
    clusters = [shared[at] for at in kept]
    estimates, per_class = estimate_figures(
        gold, predicted, labels, groups=clusters, resamples=resamples
    )
    if table is not None:
        estimates |= estimate_calibration(gold, table[kept], groups=clusters, resamples=resamples)
    reasons = Counter(o.unscored_reason for o in outcomes if o.unscored_reason is not None)
    return ClassificationScores(
        labels=tuple(labels),
        outcomes=tuple(outcomes),
        estimates=estimates,
        per_class=per_class,
        confusion=tuple(map(tuple, confusion_counts(gold, predicted, len(labels)).tolist())),
        labels_without_rows=tuple(scores.label for scores in per_class if not scores.support),
        unscored_by_reason=dict(sorted(reasons.items())),
    )


def _judge(
    row: ClassificationRow,
    prediction: str | None,
    group: str | None,
    labels: Sequence[str],
    probabilities: Floats | None,
) -> ClassificationOutcome:
    reason = _unscored_reason(row, labels)
    confidence = None if probabilities is None else float(probabilities.max())
    return ClassificationOutcome(
        row_id=row.row_id,
        group=group,
        gold=row.gold,
        predicted=prediction,
        correct=None if reason else prediction == row.gold,
        confidence=None if confidence is None or np.isnan(confidence) else confidence,
        unscored_reason=reason,
    )


def _unscored_reason(row: ClassificationRow, labels: Sequence[str]) -> str | None:
    if row.unscored_reason:
        return row.unscored_reason
    if row.gold is None:
        return "gold_missing"
    return None if row.gold in labels else "gold_not_a_label"


def _check(
    rows: Sequence[ClassificationRow],
    predictions: Sequence[str | None],
    groups: Sequence[str | None] | None,
    labels: Sequence[str],
) -> None:
    if not rows or len(rows) != len(predictions):
        raise ScoringError(
            f"Found {len(rows)} rows and {len(predictions)} predictions; expected at least one row "
            "and one prediction for each."
        )
    if groups is not None and len(groups) != len(rows):
        raise ScoringError(
            f"Found {len(rows)} rows and {len(groups)} groups; expected one group per row."
        )
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise ScoringError(
            f"Found the labels {list(labels)}; expected at least two, each once. With one label "
            "every answer is right, and no figure means anything."
        )
    others = sorted({str(p) for p in predictions if p is not None} - set(labels))
    if others:
        raise ScoringError(
            f"Found {len(others)} predicted labels that are none of {list(labels)[:_SHOWN]}, the "
            f"first {others[0][:80]!r}; expected a label or None. Read labels out of generated "
            "text with read_label."
        )


def _check_scored(
    rows: Sequence[ClassificationRow], probabilities: ArrayLike, labels: Sequence[str]
) -> Floats:
    table = np.array(probabilities, dtype=np.float64)
    # What a model says to a row that it could not be asked means nothing, and may be anything.
    unasked = [at for at, row in enumerate(rows) if row.unscored_reason]
    if table.ndim == 2 and len(table) == len(rows):
        table[unasked] = np.nan
    return check_probabilities(table, len(rows), len(labels))
