"""The trigger `degraded`: the champion is worse on newer rows than on those that promoted it.

One model, two sets of rows that share none, so that its figure is compared as that of two
independent samples (`two_samples`). It fires where the whole interval of 95 % is on the worse side
of `loss`: by chance in at most 2.5 %, and never for a difference that is only not known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from retune.retraining.findings import TriggerFinding
from retune.retraining.two_samples import Sample, SampleDifference, compare_samples
from retune.score_records import ScoreReport
from retune.scoring.classification.counts import macro_f1, number_labels, tabulate_counts
from retune.scoring.figure import Figure
from retune.scoring.figures import column_of, figure_of
from retune.scoring.free_text.corpus_bleu import bleu_of_sums
from retune.scoring.outcomes import read_outcomes
from retune.scoring.uncertainty.exchanging import FEWEST_UNITS
from retune.scoring.uncertainty.resampling import (
    Floats,
    Statistic,
    bits_of_ratio,
    exp_of_ratio,
    ratio_of_sums,
)

NAME = "degraded"
_STATISTICS: dict[str, Statistic] = {
    "mean": ratio_of_sums,
    "macro_f1": macro_f1,
    "exp_of_ratio": exp_of_ratio,
    "bits_of_ratio": bits_of_ratio,
    "bleu": bleu_of_sums,
}

Row = Mapping[str, Any]


def judge_no_newer_rows(rows: int) -> TriggerFinding:
    """Answer where the champion knows all of the newer rows.

    Args:
        rows: How many there are.
    """
    reason = f"the champion knows all of the {rows:,} newer rows: nothing can be learned from them"
    return TriggerFinding(trigger=NAME, fires=False, reason=reason, figures={"newer_rows": 0.0})


def judge_degradation(
    metric: str,
    older: ScoreReport,
    newer: ScoreReport,
    *,
    loss: float,
    resamples: int,
    asked_then: Collection[str] | None,
) -> TriggerFinding:
    """Answer the trigger `degraded`.

    Args:
        metric: The deciding figure.
        older: The champion's report on the rows that it was promoted on.
        newer: The same on newer rows.
        loss: By how much it must be shown to be worse, in the figure's own unit.
        resamples: Bootstrap draws.
        asked_then: Ids of the older rows that it was promoted on; None: all of them.

    Returns:
        Whether it fires, and why.
    """
    figure = figure_of(metric)
    then, now = _read_scored(figure, older, asked_then), _read_scored(figure, newer, None)
    labels = _labels([*then, *now])
    samples = [
        Sample(_tabulate(figure, each, labels), [row["group"] for row in each])
        for each in (then, now)
    ]
    if min(each.units for each in samples) < FEWEST_UNITS:
        return _too_few(figure, samples)
    found = compare_samples(samples[0], samples[1], _STATISTICS[figure.statistic], resamples)
    worse = found.low if figure.lower_is_better else -found.high
    return TriggerFinding(
        trigger=NAME,
        fires=worse > loss,
        reason=_describe(figure, samples, found, loss, fires=worse > loss),
        figures={
            "older_rows": float(len(then)),
            "newer_rows": float(len(now)),
            f"{metric}.older": found.older,
            f"{metric}.newer": found.newer,
            f"{metric}.low": found.low,
            f"{metric}.high": found.high,
        },
    )


def _read_scored(figure: Figure, report: ScoreReport, ids: Collection[str] | None) -> list[Row]:
    """Return the rows of a report that have the figure, and are among some where those are said."""
    needed = figure.columns or (column_of(figure),)
    return [
        row
        for row in read_outcomes(report)
        if all(row[name] is not None for name in needed) and (ids is None or row["row_id"] in ids)
    ]


def _labels(rows: Iterable[Row]) -> list[str]:
    named = (row.get(field) for row in rows for field in ("gold", "predicted"))
    return sorted({str(name) for name in named if name is not None})


def _tabulate(figure: Figure, rows: Sequence[Row], labels: Sequence[str]) -> Floats:
    if figure.statistic == "macro_f1":
        gold, predicted = (
            number_labels([row[name] for row in rows], labels) for name in ("gold", "predicted")
        )
        return tabulate_counts(gold, predicted, len(labels))
    if figure.statistic == "mean":
        return np.array([(float(row[figure.name]), 1.0) for row in rows], dtype=np.float64)
    return np.array([[row[name] for name in figure.columns] for row in rows], dtype=np.float64)


def _too_few(figure: Figure, samples: Sequence[Sample]) -> TriggerFinding:
    older, newer = (len(each.table) for each in samples)
    groups = min(each.units for each in samples)
    reason = (
        f"{figure.label} of {newer:,} newer rows and {older:,} older ones: the fewer of them are "
        f"{groups} independent groups, and fewer than {FEWEST_UNITS} show nothing"
    )
    figures = {"older_rows": float(older), "newer_rows": float(newer)}
    return TriggerFinding(trigger=NAME, fires=False, reason=reason, figures=figures)


def _describe(
    figure: Figure,
    samples: Sequence[Sample],
    found: SampleDifference,
    loss: float,
    *,
    fires: bool,
) -> str:
    older, newer = (len(each.table) for each in samples)
    apart, low, high, most = (
        _show(figure, value, apart=True)
        for value in (found.newer - found.older, found.low, found.high, loss)
    )
    return (
        f"{figure.label} is {_show(figure, found.newer)} on {newer:,} newer rows and "
        f"{_show(figure, found.older)} on the {older:,} that promoted the champion; difference "
        f"{apart}, 95 % interval {low} to {high}: it {'is' if fires else 'is not'} shown to be "
        "worse" + (f" by more than {most}" if loss else "")
    )


def _show(figure: Figure, value: float, *, apart: bool = False) -> str:
    """Write a figure; of two apart, their difference."""
    if figure.unit == "number":
        return f"{value:.3g}"
    return f"{100 * value:.1f} {'points' if apart else '%'}"
