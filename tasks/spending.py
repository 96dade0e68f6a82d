"""What the held-out rows may still be asked: told before training, and found before a decision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retune.gate.deciding import choose_metric
from retune.gate.stages import DecideInputs
from retune.model_records import ChampionRef, MergedRef
from retune.registry.ledger.ledger import LEDGERS, Ledger
from retune.registry.records import LedgerEntry
from retune.release.error_budget import ErrorBudget
from retune.release.held_out_rows import (
    RowHashes,
    find_shared,
    read_kept_rows,
    read_test_cases,
    read_test_rows,
    remember_rows,
)
from retune.release.ledger_figures import metric_of
from retune.release.spending import Question, find_budget
from retune.scoring.figures import figure_behind
from tasks.champion import Scores, cases_that_decide
from tasks.runs.job import Job
from tasks.runs.run import RecipeRun
from tasks.runs.stage_task import is_pending

_ROWS = f"{LEDGERS}/rows"
"""Folder of the held-out rows that decisions rested on, below the store's."""


def look_at_budget(job: Job) -> ErrorBudget | None:
    """Return what is left of the error of the held-out rows, for a challenger not yet trained.

    Args:
        job: Its rows.

    Returns:
        The budget; None where a plan does not know the rows yet.

    Raises:
        ArtifactError: The ledger, or what is kept of earlier held-out rows, is damaged.
        ServiceError: MLflow does not answer.
    """
    return _find(job, None) if job.rows_known else None


def look_at_last_budget(run: RecipeRun, entries: Sequence[LedgerEntry]) -> ErrorBudget | None:
    """Return what is left of the error of the rows, or cases, that the last decision rested on.

    No row is read: what stands for them was kept beside the ledger.

    Args:
        run: A run of the recipe.
        entries: The model's ledger.

    Returns:
        The budget; None where nothing was decided on rows, or they are not in this store.

    Raises:
        ArtifactError: What is kept of earlier held-out rows is damaged.
    """
    run.store.share_files(_ROWS)
    kept, gate = run.store.root / _ROWS, run.recipe.gate
    over_cases = _is_over_cases(gate.metric)
    rested = (
        each.test_rows
        for each in reversed(entries)
        if each.alpha and _is_over_cases(metric_of(each)) == over_cases
    )
    rows = read_kept_rows(kept, next(rested, ""))
    if rows is None:
        return None
    shared = find_shared(kept, rows)
    return find_budget(entries, gate, rows=len(rows), shared=shared, over_cases=over_cases)


def _is_over_cases(metric: str | None) -> bool:
    return metric is not None and figure_behind(metric).over == "cases"


def warn_of_worn_rows(job: Job) -> None:
    """Say before anything expensive where no challenger can be promoted on the held-out rows.

    It is no error: a run whose challenger was decided on before gets its decision again.

    Args:
        job: Its rows.

    Raises:
        ArtifactError: The ledger, or what is kept of earlier held-out rows, is damaged.
        ServiceError: MLflow does not answer.
    """
    budget = look_at_budget(job)
    if budget is not None and budget.used_up:
        job.run.watcher.note(budget.describe())


def budget_decision(
    job: Job, merged: MergedRef, champion: ChampionRef | None, scores: Scores
) -> ErrorBudget | None:
    """Find the level of a decision, and keep which rows it rests on.

    Args:
        job: Its rows.
        merged: The challenger.
        champion: What it is compared with, from `find_champion`.
        scores: Of `merged`, `base` and `champion`: they say which figure decides where the recipe
            does not.

    Returns:
        The budget with the level; None where a plan does not know what is decided yet.

    Raises:
        ArtifactError: The ledger, or what is kept of earlier held-out rows, is damaged.
        ServiceError: MLflow does not answer.
    """
    if not job.rows_known or is_pending([merged, *scores.values()]):
        return None
    compared = {"challenger": scores["merged"], "base": scores["base"]}
    inputs = DecideInputs.model_validate({**compared, "champion": scores["champion"]})
    metric, _ = choose_metric(job.run.recipe.gate, inputs)
    question = Question(
        challenger=merged.digest,
        opponent="" if champion is None else champion.digest,
        test_rows=_find_test_set(job)[0],
        metric=metric,
    )
    return _find(job, question)


def _find(job: Job, question: Question | None) -> ErrorBudget:
    run, folder = job.run, Path(job.run.context["ledgers"])
    (digest, rows, count), kept = _find_test_set(job), run.store.root / _ROWS
    if question is not None and not run.planning:
        remember_rows(kept, digest, rows)
    # What one machine has decided on wears the rows out for all.
    run.store.share_files(_ROWS)
    ledger = Ledger(run.context["tracking_uri"], run.recipe.registry.model_name, folder)
    return find_budget(
        ledger.entries(),
        run.recipe.gate,
        rows=count,
        shared=find_shared(kept, rows),
        question=question,
        over_cases=cases_that_decide(job) is not None,
    )


def _find_test_set(job: Job) -> tuple[str, RowHashes, int]:
    """Return what decisions wear out: its digest, what stands for its rows, and their number."""
    cases = cases_that_decide(job)
    if cases is None:
        chat = job.data.chat
        return chat.side("test").digest, read_test_rows(job.data.split), chat.test
    hashes = read_test_cases(cases.path)
    return cases.digest, hashes, len(hashes)
