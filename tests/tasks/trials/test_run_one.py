"""One trial: its run, who hears of it, and what stops its training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from retune.errors import ConfigError
from retune.preflight.devices import TRAINING_CLUSTER
from retune.spine.process import StageProcess
from retune.tracking import connect
from retune.training.stages import train_adapter
from retune.trials.pruning import StoppedNote, TrialStopped
from retune.trials.trials import Trial, TrialRequest
from retune.watching import WATCHER, StageLine
from tasks.runs.job import Job
from tasks.trials.run_one import OpenTrial, open_trial, train_watched
from tests.tasks.conftest import MakeJob, Told, make_model, with_rows, write_recipe


def make_request(folder: Path, *, stop_hopeless: bool = True) -> TrialRequest:
    """Return a request for a trial of a recipe without files."""
    return TrialRequest(
        recipe=write_recipe(folder),
        trial=Trial(name="short", overrides=("training.max_steps=2",)),
        comparison="digest",
        parent_run="comparison",
        stop_hopeless=stop_hopeless,
    )


@pytest.mark.usefixtures("tracking")
def test_a_trial_is_a_run_below_its_comparison(tmp_path: Path, told: Told) -> None:
    """With its overrides and a process of its own; it is called without Prefect."""
    with open_trial(make_request(tmp_path)) as trial:
        run = trial.run
        assert run.direct and run.process is not None and run.recipe.training.max_steps == 2
        found = connect(run.context["tracking_uri"]).get_run(run.parent_run)
    assert found.data.tags["mlflow.parentRunId"] == "comparison"
    assert found.data.tags["retune.trial"] == found.info.run_name == "short"
    assert found.data.params["overrides"] == "training.max_steps=2"
    assert told.notes == []


@pytest.mark.usefixtures("tracking", "told")
def test_a_trial_trains_on_its_node(tmp_path: Path) -> None:
    """Four devices of the cluster are for one training alone."""
    training = {"batch_size": 8, "devices": 4}
    runner = {"kind": "ray", "address": "head:6379"}
    request = make_request(tmp_path)
    write_recipe(tmp_path, training=training, runner=runner)
    with open_trial(request) as trial:
        assert trial.run.recipe.training.devices == "auto"
        assert TRAINING_CLUSTER not in trial.run.context


@pytest.mark.usefixtures("tracking")
def test_who_watches_hears_of_a_trial_by_its_name_and_of_no_stage(
    tmp_path: Path, told: Told
) -> None:
    """A trial is one line of the comparison; afterwards the watcher is the one from before."""
    with open_trial(make_request(tmp_path)) as trial:
        watcher = trial.run.watcher
        watcher.started("train_adapter", "first run")
        watcher.progress("train_adapter", "steps", 1, 2)
        watcher.note("slow")
        watcher.finished(StageLine(name="x", state="ran", reason="", seconds=1, key=""))
    assert told.begun == [("short: train_adapter", "first run")]
    assert told.moved == [("short: train_adapter", "steps", 1, 2)]
    assert told.notes == ["short: slow"] and told.lines == []
    assert WATCHER.get() is told


def make_trial(job: Job, folder: Path, *, stop_hopeless: bool) -> tuple[OpenTrial, Job, str]:
    """Return a trial whose training an earlier run of the comparison stopped, and its key."""
    process = StageProcess(folder / "log", table="nowhere:STAGES", import_ahead="json")
    job = with_rows(replace(job, run=replace(job.run, planning=False, process=process)), folder)
    job = replace(job, run=replace(job.run, direct=True))
    given = {
        "train": job.data.chat.side("train"),
        "validation": job.data.chat.side("validation"),
        "base": job.inputs.base,
        "model": make_model(folder),
        "start": None,
    }
    request, _ = job.run.request(train_adapter, given)
    trial = OpenTrial(job.run, make_request(folder, stop_hopeless=stop_hopeless))
    trial.ledger.add_stopped(request.key, StoppedNote(name="short", reason="behind"))
    return trial, job, request.key


def test_a_training_that_was_stopped_is_not_begun_again(make_job: MakeJob, tmp_path: Path) -> None:
    """The ledger says so; the error names the training, for MLflow."""
    trial, job, key = make_trial(make_job(), tmp_path, stop_hopeless=True)
    with pytest.raises(TrialStopped, match="behind") as stopped:
        train_watched(trial, job, make_model(tmp_path))
    assert stopped.value.training_key == key
    assert not (tmp_path / "log").exists()


def test_a_trial_that_may_go_on_is_not_watched(make_job: MakeJob, tmp_path: Path) -> None:
    """It begins, in a stage process, whatever the ledger says."""
    trial, job, _ = make_trial(make_job(), tmp_path, stop_hopeless=False)
    with pytest.raises(ConfigError, match="No module named 'nowhere'"):
        train_watched(trial, job, make_model(tmp_path))
