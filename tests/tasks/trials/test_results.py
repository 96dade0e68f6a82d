"""What came of one trial."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from retune.errors import DataError
from retune.records import LOG_FOLDER
from retune.score_records import ModelScores
from retune.tracking import connect
from retune.trials.pruning import TrialStopped
from retune.trials.results import find_loss_scope
from retune.watching import StageLine
from tasks.runs.run import TrackedRun, open_run
from tasks.trials.results import fail_trial, finish_trial, stop_trial
from tasks.trials.run_one import OpenTrial
from tests.tasks.conftest import MakeJob, MakeRun, make_adapter, with_rows
from tests.tasks.trials.test_run_one import make_request

TRACKED = TrackedRun(name="short", tags={}, params={})


def test_a_finished_trial_is_told_from_its_artifacts(make_job: MakeJob, tmp_path: Path) -> None:
    """Its loss, its curve over the planned steps (2 of 4 is a half), and that it was reused."""
    job = with_rows(make_job(), tmp_path)
    store = job.run.store
    work = store.open_work("train_adapter", "key")
    (work / "artifact" / LOG_FOLDER).mkdir()
    points = [{"name": "validation_loss", "value": 3.0 - step, "step": step} for step in (0, 1, 2)]
    lines = "".join(json.dumps(each) + "\n" for each in points)
    (work / "artifact" / LOG_FOLDER / "metrics.jsonl").write_text(lines)
    adapter = make_adapter(work / "artifact", steps=4)
    store.seal("train_adapter", "key", adapter, key_parts={}, provenance={"seconds": 8.0})
    line = StageLine(name="train_adapter", state="waited", reason="", seconds=2.0, key="key")
    job.run.lines.append(line)
    trial = OpenTrial(job.run, make_request(tmp_path))
    result = finish_trial(trial, job, ModelScores.of({}))
    assert result.state == "finished" and result.training_key == "key" and result.reused
    assert result.validation_loss == 1.25 and result.curve == ((0.25, 2.0), (0.5, 1.0))
    assert result.cost is not None and result.cost.seconds == 8.0
    loss_scope = find_loss_scope(job.run.recipe, "y")
    assert trial.ledger.finished(loss_scope, without="other") == [result.curve]


@pytest.mark.usefixtures("tracking")
def test_a_stopped_trial_ends_its_training_as_killed(make_run: MakeRun, tmp_path: Path) -> None:
    """MLflow says why, and links to the training."""
    with open_run(replace(make_run(), direct=True), TRACKED) as run:
        assert run.mirror is not None
        training = run.mirror.open_training(run.parent_run, "key", "short: training")
        trial = OpenTrial(run, make_request(tmp_path))
        result = stop_trial(trial, TrialStopped("behind", "key"))
        client = connect(run.context["tracking_uri"])
        assert client.get_run(training).info.status == "KILLED"
        tags = client.get_run(run.parent_run).data.tags
    assert result.state == "stopped" and result.reason == "behind"
    assert tags["retune.training_run"] == training and tags["retune.reason"] == "behind"


def test_a_failed_trial_says_what_it_was(tmp_path: Path) -> None:
    """With its own settings, from outside of the process that failed."""
    result = fail_trial(make_request(tmp_path), DataError("no rows"))
    assert (result.name, result.state, result.reason) == ("short", "failed", "no rows")
    assert result.error == "DataError"
    assert result.overrides == ("training.max_steps=2",)
