"""What a job's held-out rows may still be asked, by the ledger of its registered model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retune.data.schemas import INDEX_SCHEMA
from retune.model_records import ChampionRef, MergedRef
from retune.registry.ledger.ledger import Ledger
from retune.registry.records import LedgerEntry, LedgerKind
from retune.release.error_budget import ErrorBudget
from retune.retraining.findings import Assessment, TriggerFinding
from retune.score_records import Metric, ModelScores, ScoreReport
from tasks.champion import cases_that_decide
from tasks.retrain.triggers import ask_held_out_rows, judge_held_out_rows
from tasks.runs.job import Job
from tasks.spending import (
    budget_decision,
    look_at_budget,
    look_at_last_budget,
    warn_of_worn_rows,
)
from tests.making import source_of
from tests.tasks.conftest import MakeJob, Told, with_rows

pytestmark = pytest.mark.usefixtures("tracking")

TWO = {"error": 0.04, "decisions_per_test_set": 2}
"""Two shares of 0.02, each at the two-sided level 0.04."""


def hold_out(folder: Path, count: int) -> None:
    """Write a test side whose rows are numbers from 0."""
    columns = {name: [None] * count for name in INDEX_SCHEMA.names} | {"folded": range(count)}
    pq.write_table(pa.table(columns, schema=INDEX_SCHEMA), folder / "test.parquet")


@pytest.fixture
def job(make_job: MakeJob, tmp_path: Path) -> Job:
    """A job of forty held-out rows that would run."""
    hold_out(tmp_path, 40)
    planned = with_rows(make_job(gate=TWO), tmp_path)
    return replace(planned, run=replace(planned.run, planning=False))


def find(job: Job, digest: str, champion: str = "") -> ErrorBudget:
    """Find the budget of a decision on a released model that has labels alone."""
    folder = job.run.store.root
    rate = Metric(value=0.5, low=0.4, high=0.6, n=40)
    report = ScoreReport(
        digest="l", folder=folder, metrics={"macro_f1": rate}, rows=40, unscored={}
    )
    merged = MergedRef(
        digest=digest,
        folder=folder,
        rows_checked=1,
        max_logit_difference=0.0,
        logit_spread=1.0,
        answers_equal=1,
    )
    opponent = champion and ChampionRef(
        digest=champion, version=1, weights=folder, tokenizer=folder
    )
    each = ModelScores.of({"labels": report})
    scores = {"merged": each, "base": each, "champion": each if champion else None}
    found = budget_decision(job, merged, opponent or None, scores)
    assert found is not None
    return found


def enter(
    job: Job,
    budget: ErrorBudget,
    digest: str,
    kind: LedgerKind = "rejected",
    test_rows: str | None = None,
    metric: str = "macro_f1",
) -> None:
    """Write a decision into the ledger as the flow does."""
    run = job.run
    ledger = Ledger(run.context["tracking_uri"], "small", run.store.root / "ledger")
    ledger.append(
        LedgerEntry(
            number=0,
            at="2026-11-01T00:00:00+00:00",
            kind=kind,
            model_name="small",
            actor="gate",
            challenger=digest,
            test_rows=test_rows or job.data.chat.side("test").digest,
            to_version=1 if kind == "promoted" else None,
            alpha=budget.alpha,
            reason="",
            figures={metric: 0.5, f"{metric}.low": 0.4, f"{metric}.high": 0.6},
        )
    )


def test_a_plan_without_rows_says_nothing(make_job: MakeJob, told: Told) -> None:
    """Which rows are held out is not known yet."""
    job = make_job()
    assert look_at_budget(job) is None
    warn_of_worn_rows(job)
    assert told.notes == []


def test_a_run_finds_its_level_and_is_told_when_rows_are_worn(job: Job, told: Told) -> None:
    """The third challenger of two has level 0, and training says so before it starts."""
    for number in (1, 2):
        budget = find(job, f"m{number}")
        assert (budget.alpha, budget.left) == (0.04, 3 - number)
        warn_of_worn_rows(job)
        enter(job, budget, f"m{number}")
    assert told.notes == []
    assert find(job, "m3").alpha == 0
    warn_of_worn_rows(job)
    assert len(told.notes) == 1 and "worn out: 2 decisions" in told.notes[0]


def test_a_repeated_run_asks_the_same_question(job: Job) -> None:
    """The second time the challenger is champion, and compared with nobody as before.

    With another opponent it is another question.
    """
    enter(job, find(job, "m1"), "m1", "promoted")
    again = find(job, "m1")
    assert again.asked_before and (again.alpha, again.spent) == (0.04, 0.0)
    assert not find(job, "m1", champion="other").asked_before


def test_rows_that_a_decision_rested_on_are_known_in_a_grown_test_set(
    job: Job, tmp_path: Path
) -> None:
    """Forty of fifty rows are shared: 0.02 * 0.8 is spent, and one share of 0.02 is whole."""
    enter(job, find(job, "m1"), "m1")
    hold_out(tmp_path, 50)
    chat = job.data.chat.model_copy(update={"side_digests": {"test": "grown"}})
    grown = look_at_budget(replace(job, data=replace(job.data, chat=chat)))
    assert grown is not None and grown.spent == pytest.approx(0.016) and grown.left == 1


def test_a_plan_keeps_nothing(job: Job) -> None:
    """It finds the same level, and writes no rows."""
    planned = replace(job, run=replace(job.run, planning=True))
    assert find(planned, "m1").alpha == 0.04
    assert not (job.run.store.root / "ledger" / "rows").exists()


def test_what_is_left_is_told_without_reading_rows(job: Job) -> None:
    """Forty rows of the last decision: one of two shares is spent; before it nothing is known."""

    def told() -> ErrorBudget | None:
        folder = Path(job.run.context["ledgers"])
        name = job.run.recipe.registry.model_name
        entries = Ledger(job.run.context["tracking_uri"], name, folder).entries()
        return look_at_last_budget(job.run, entries)

    assert told() is None
    enter(job, find(job, "m1"), "m1")
    found = told()
    assert found is not None and (found.rows, found.left, found.spent) == (40, 1, 0.02)
    # What was decided on cases of probes says nothing of rows.
    enter(job, found, "m2", test_rows="cases", metric="probe_pass_rate")
    again = told()
    assert again is not None and again.rows == 40
    shutil.rmtree(Path(job.run.context["ledgers"]) / "rows")
    assert told() is None


def test_where_probes_decide_their_cases_are_worn_out(job: Job, tmp_path: Path) -> None:
    """Fresh rows give no share back to a decision that never looked at them; fresh cases do."""

    def probed(name: str, asked: list[str]) -> Job:
        path = tmp_path / f"{name}.yaml"
        lines = [
            f"    - {{id: c{at}, input: {text}, expected: yes, required_words: [yes]}}"
            for at, text in enumerate(asked)
        ]
        path.write_text("\n".join(["categories:", "  tone:", *lines, ""]), "utf-8")
        recipe = job.run.recipe
        gate = recipe.gate.model_copy(update={"metric": "probe_pass_rate"})
        settings = recipe.model_copy(update={"gate": gate})
        run = replace(job.run, settings=settings, loaded=replace(job.run.loaded, recipe=settings))
        return replace(job, run=run, inputs=replace(job.inputs, probes=source_of(path)))

    first = probed("first", ["Are you well", "Is it day"])
    budget = find(first, "m1")
    assert (budget.rows, budget.left) == (2, 2)
    cases = cases_that_decide(first)
    assert cases is not None and cases_that_decide(job) is None
    enter(first, budget, "m1", test_rows=cases.digest, metric="probe_pass_rate")
    hold_out(tmp_path, 50)
    chat = job.data.chat.model_copy(update={"side_digests": {"test": "fresh"}, "test": 50})
    fresh_rows = replace(first, data=replace(job.data, chat=chat))
    assert find(fresh_rows, "m1").asked_before and find(fresh_rows, "m2").left == 1
    half = look_at_budget(probed("half", ["are you WELL", "Is it night"]))
    assert half is not None and half.spent == pytest.approx(0.01)
    others = look_at_budget(probed("others", ["Who", "What"]))
    assert others is not None and others.left == 2
    assert "on these 2 cases of probes" in others.describe()


def test_worn_rows_hold_a_retraining_back_whatever_fires(job: Job) -> None:
    """Of two shares one is left, then none; rows that nobody has read hold nothing back."""
    fires = TriggerFinding(trigger="schedule", fires=True, reason="each start")
    worth_it = Assessment(triggers=(fires,))
    enter(job, find(job, "m1"), "m1")
    assert ask_held_out_rows(worth_it, job).worth_it
    enter(job, find(job, "m2"), "m2")
    held = ask_held_out_rows(worth_it, job)
    assert not held.worth_it and "worn out" in held.reason
    [bound] = judge_held_out_rows(job)
    assert (bound.holds_back, bound.figures) == (True, {"decisions_left": 0.0})
    assert judge_held_out_rows(None) == ()
