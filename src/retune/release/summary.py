"""What a run has to say at its end: the JSON of `retune run --json`, and what reports show."""

from __future__ import annotations

from pathlib import Path

from retune.records import (
    GateDecision,
    Metric,
    ModelScores,
    Record,
    RegisteredRef,
    Role,
)
from retune.scoring.outcomes import read_outcomes
from retune.watching import StageLine

HEADLINE = ("sql_execution_match", "sql_exact_match", "perplexity", "probe_pass_rate")
"""The metrics of the table, in its order."""


class Sample(Record):
    """One held-out row and what each model answered."""

    question: str
    reference: str
    answers: dict[Role, str]
    right: dict[Role, bool | None]
    """Whether the answer gives the reference's result; None where that could not be said."""


class RunSummary(Record):
    """One run: figures per model, stages, decision, registered version, and where to look."""

    recipe: str
    models: dict[Role, dict[str, Metric]]
    stages: tuple[StageLine, ...]
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
    by_role = {role: read_outcomes(each.sql) for role, each in scores.items() if each.sql}
    rows = next(iter(by_role.values()), [])
    places = [len(rows) * (2 * place + 1) // (2 * count) for place in range(min(count, len(rows)))]
    return tuple(
        Sample(
            question=rows[place]["question"],
            reference=rows[place]["reference"],
            answers={role: outcomes[place]["prediction"] for role, outcomes in by_role.items()},
            right={
                role: outcomes[place]["sql_execution_match"] for role, outcomes in by_role.items()
            },
        )
        for place in places
    )
