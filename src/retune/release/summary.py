"""What a run has to say at its end: the JSON of `retune run --json`, and what reports show."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from retune.model_records import Role
from retune.recipe.sections.scoring import Form
from retune.records import Record
from retune.release.error_budget import ErrorBudget
from retune.release.samples import Sample
from retune.score_records import GateDecision, Metric, ModelScores, RegisteredRef, ScoreReport
from retune.scoring.figures import headline_of
from retune.watching import StageLine


class RunSummary(Record):
    """One run: figures per model, stages, decision, registered version, and where to look."""

    recipe: str
    models: dict[Role, dict[str, Metric]]
    stages: tuple[StageLine, ...]
    form: Form = "plain"
    """That base, released model and champion were scored in."""
    baselines: dict[str, dict[str, Metric]] = Field(default_factory=dict)
    """What plain classifiers reach on the same rows, where rows have labels."""
    decision: GateDecision
    budget: ErrorBudget | None = None
    """What the held-out rows could still be asked when it was taken."""
    registered: RegisteredRef
    samples: tuple[Sample, ...]
    mlflow_run_id: str
    tracking_uri: str
    report: Path
    """Folder with `report.md`, `report.html` and `curves.png`."""


def headline(scores: ModelScores) -> dict[str, Metric]:
    """Return the table's metrics of one model."""
    metrics = scores.metrics()
    return {name: metrics[name] for name in headline_of(metrics)}


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
        if headline_of([figure]):
            found.setdefault(classifier, {})[figure] = metric
    return found
