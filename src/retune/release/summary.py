"""What a run has to say at its end: the JSON of `retune run --json`, and what reports show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from retune.records import (
    GateDecision,
    Metric,
    ModelScores,
    Record,
    RegisteredRef,
    Role,
    ScoreReport,
)
from retune.scoring.outcomes import read_outcomes
from retune.watching import StageLine

HEADLINE = (
    "sql_execution_match",
    "sql_exact_match",
    "macro_f1",
    "accuracy",
    "perplexity",
    "general_text_bits_per_byte",
    "probe_pass_rate",
    "flip_rate",
)
"""The metrics of the table, in its order."""


class Sample(Record):
    """One held-out row and what each model answered."""

    question: str
    reference: str
    answers: dict[Role, str]
    right: dict[Role, bool | None]
    """Whether the answer is right (gives the reference's result, names the class); None where that
    could not be said."""


class RunSummary(Record):
    """One run: figures per model, stages, decision, registered version, and where to look."""

    recipe: str
    models: dict[Role, dict[str, Metric]]
    stages: tuple[StageLine, ...]
    baselines: dict[str, dict[str, Metric]] = Field(default_factory=dict)
    """What plain classifiers reach on the same rows, where rows have labels."""
    decision: GateDecision
    registered: RegisteredRef
    samples: tuple[Sample, ...]
    mlflow_run_id: str
    tracking_uri: str
    report: Path
    """Folder with `report.md`, `report.html` and `curves.png`."""


def headline(scores: ModelScores) -> dict[str, Metric]:
    """Return the table's metrics of one model."""
    metrics = scores.metrics()
    return {name: metrics[name] for name in HEADLINE if name in metrics}


def choose_samples(scores: dict[Role, ModelScores], count: int) -> tuple[Sample, ...]:
    """Pick rows evenly over the held-out side, whatever their outcome.

    Args:
        scores: Reports by role, all over the same rows.
        count: How many.

    Returns:
        The samples, in the order of the rows; none where no model wrote answers.
    """
    by_role = {role: _answers_of(each) for role, each in scores.items()}
    rows = next(iter(by_role.values()), [])
    places = [len(rows) * (2 * place + 1) // (2 * count) for place in range(min(count, len(rows)))]
    return tuple(
        Sample(
            question=rows[place]["question"],
            reference=rows[place]["reference"],
            answers={role: outcomes[place]["prediction"] for role, outcomes in by_role.items()},
            right={role: _is_right(outcomes[place]) for role, outcomes in by_role.items()},
        )
        for place in places
    )


def _answers_of(scores: ModelScores) -> list[dict[str, Any]]:
    """Return the rows of the report that holds what the model wrote."""
    report = scores.sql or scores.labels or scores.answers
    rows = read_outcomes(report) if report else []
    return [{"reference": row.get("gold"), **row} for row in rows]


def _is_right(row: dict[str, Any]) -> bool | None:
    return row.get("sql_execution_match", row.get("accuracy"))


def split_baselines(report: ScoreReport | None) -> dict[str, dict[str, Metric]]:
    """Return the headline figures of each plain classifier.

    Args:
        report: The report of `score_baselines`; None where rows have no labels.

    Returns:
        Metrics by classifier.
    """
    found: dict[str, dict[str, Metric]] = {}
    for name, metric in (report.metrics if report else {}).items():
        classifier, _, figure = name.partition(".")
        if figure in HEADLINE:
            found.setdefault(classifier, {})[figure] = metric
    return found
