"""What a running stage reports: to the watcher, and a training's own run in MLflow."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import TerminationSignal

from retune.errors import StageError
from retune.tracking import connect
from tasks.runs import live
from tasks.runs.live import LiveReporter, name_training, training_params
from tasks.runs.run import RecipeRun, TrackedRun, open_run
from tests.tasks.conftest import MakeRun, Told
from tests.waiting import GUARD_SECONDS

TRACKED = TrackedRun(name="small", tags={}, params={})


def nested(run: RecipeRun) -> Any:
    """Return the MLflow run of the training with the key `key`."""
    assert run.mirror is not None
    found = run.mirror.find_training("key")
    return None if found is None else connect(run.context["tracking_uri"]).get_run(found)


@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (StageError("no"), "FAILED"), (TerminationSignal(15), "KILLED")],
)
def test_a_training_keeps_its_settings_however_it_ends(
    make_run: MakeRun, error: BaseException | None, status: str
) -> None:
    """They are written when it starts to compute, and figures as they come."""
    prepared = replace(make_run(training={"max_steps": 7}), direct=True)
    with open_run(prepared, TRACKED) as run:
        with (
            pytest.raises(type(error)) if error else nullcontext(),
            LiveReporter(run, "train_adapter", "key") as reporter,
        ):
            reporter.started()
            reporter.metric("loss", 0.5, 3)
            if error is not None:
                raise error
        found = nested(run)
    assert found.info.status == status and found.info.run_name == "small: training"
    assert found.data.params["training.max_steps"] == "7"
    assert found.data.params["method.kind"] == "lora"
    assert found.data.metrics == {"loss": 0.5}


@pytest.mark.usefixtures("tracking")
def test_a_training_that_only_waits_has_no_run(make_run: MakeRun) -> None:
    """Its run is that of the flow run which computes, and stays there."""
    with open_run(make_run(), TRACKED) as run:
        with LiveReporter(run, "train_adapter", "key") as reporter:
            pass
        assert not reporter.computed and nested(run) is None


def test_the_watcher_is_told_of_progress_and_lines(make_run: MakeRun, told: Told) -> None:
    """Called without Prefect, nothing else is."""
    with LiveReporter(replace(make_run(), direct=True), "score_sql", "key") as reporter:
        reporter.started()
        reporter.progress("rows", 1, 4)
        reporter.log("slow")
    assert told.moved == [("score_sql", "rows", 1, 4)] and told.notes == ["score_sql: slow"]
    assert reporter.computed


def test_an_api_that_never_answers_holds_up_neither_stage_nor_end(
    make_run: MakeRun, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request is under way at a time, and its thread is none that the process waits for."""
    answered, asked = threading.Event(), list[float]()

    def show(_: Any, percent: float, **__: Any) -> None:
        asked.append(percent)
        answered.wait(GUARD_SECONDS)

    monkeypatch.setattr(live, "show", show)
    monkeypatch.setattr(live, "_LAST_UPDATE_SECONDS", 0.0)
    monkeypatch.setattr(live, "_SECONDS_BETWEEN_UPDATES", 0.0)
    before = set(threading.enumerate())
    with LiveReporter(replace(make_run(), direct=False), "score_sql", "key") as reporter:
        for done in (1, 2, 3):
            reporter.progress("rows", done, 4)
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon and len(told.moved) == 3
    answered.set()
    thread.join(GUARD_SECONDS)
    assert asked == [25.0]


def test_a_stage_that_ends_well_is_shown_as_whole(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last request comes after the one under way, and is waited for."""
    asked = list[float]()

    def show(_: Any, first: Any, **fields: Any) -> str:
        asked.append(fields.get("progress", first))
        return "artifact"

    monkeypatch.setattr(live, "show", show)
    monkeypatch.setattr(live, "_LAST_UPDATE_SECONDS", GUARD_SECONDS)
    with LiveReporter(replace(make_run(), direct=False), "score_sql", "key") as reporter:
        reporter.progress("rows", 1, 4)
    assert asked == [25.0, 100.0]


def test_each_training_shows_its_own_settings(make_run: MakeRun, tmp_path: Path) -> None:
    """Preferences and rewards have a section beside those that all trainings share."""
    recipe = make_run(dpo={"pairs": "pairs.jsonl"}).recipe
    assert set(training_params(recipe, "train_adapter")) == {"method", "training"}
    assert set(training_params(recipe, "train_preferences")) == {"method", "training", "dpo"}
    assert name_training("small", "train_preferences") == "small: preferences"
