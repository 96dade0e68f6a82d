"""What came of a comparison, for its pages, MLflow and Prefect."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from retune.trials.gathering import gather_comparison
from retune.trials.page import FILES, list_rows, write_pages
from retune.trials.results import TrialComparison, TrialResult
from tasks.runs.prefect_api import show
from tasks.runs.run import RecipeRun
from tasks.trials.comparison import OpenComparison


def report_comparison(
    comparison: OpenComparison, results: Sequence[TrialResult]
) -> TrialComparison:
    """Write down what came of all trials: pages, pictures, MLflow, Prefect.

    Args:
        comparison: The comparison.
        results: One line per trial.

    Returns:
        The comparison.

    Raises:
        RetuneError: No trial finished.
    """
    run = comparison.run
    told = gather_comparison(
        run.recipe,
        results,
        kind=comparison.kind,
        folder=run.store.root / "reports" / f"compare-{comparison.digest}",
    )
    write_pages(told)
    _report_to_mlflow(run, told)
    _report_to_prefect(told)
    return told


def _report_to_mlflow(run: RecipeRun, told: TrialComparison) -> None:
    if run.mirror is None:
        return
    best = told.best
    figure = best.metrics.get(told.metric)
    figures = {f"best.{told.metric}": figure.value if figure else None}
    states = [each.result.state for each in told.trials]
    figures |= {f"trials.{state}": float(states.count(state)) for state in sorted(set(states))}
    known = {name: value for name, value in figures.items() if value is not None}
    run.mirror.metrics(run.parent_run, known)
    pareto = ", ".join(each.result.name for each in told.trials if each.pareto)
    tags = {"retune.best_trial": best.result.name, "retune.pareto": pareto}
    run.mirror.tags(run.parent_run, tags)
    for name in FILES:
        run.mirror.artifact(run.parent_run, told.folder / name, "comparison")


def _report_to_prefect(told: TrialComparison) -> None:
    show(
        create_table_artifact,
        key="trials",
        description=f"{told.recipe}: {told.kind} of {len(told.trials)} trials",
        table=list_rows(told),
    )
    show(
        create_markdown_artifact,
        key="trials-page",
        description="What each trial costs and gives",
        markdown=(told.folder / "compare.md").read_text("utf-8"),
    )
