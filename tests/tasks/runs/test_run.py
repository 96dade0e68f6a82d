"""Opening and ending a run: who is told that it ended, and how."""

from __future__ import annotations

import errno
import os
import re
from contextlib import nullcontext
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from prefect.exceptions import CancelledRun, TerminationSignal

from retune.errors import ArtifactError, Interrupted, StageDied, StageError
from retune.spine.stage import SilentReporter
from retune.tracking import connect
from tasks.runs.run import CURRENT, TrackedRun, ended_as, open_run
from tests.retune.tiny_stages import request as tiny_request
from tests.retune.tiny_stages import tiny
from tests.tasks.conftest import MakeRun, Told

TRACKED = TrackedRun(name="shown", tags={"retune.recipe": "r.yaml"}, params={"model": {"id": "m"}})


class Process:
    """Stands for a stage process; it remembers."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.stops = 0

    def run(self, request: Any, reporter: Any) -> None:
        self.asked.append(reporter)

    def stop(self) -> None:
        self.stops += 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StageError("no"), "FAILED"),
        (StageDied("no memory"), "FAILED"),
        (ValueError("no"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(1), "KILLED"),
        (TerminationSignal(15), "KILLED"),
        (CancelledRun(), "KILLED"),
        (Interrupted("the stage process was asked first"), "KILLED"),
    ],
)
def test_what_stopped_a_run_from_outside_kills_it(error: BaseException, status: str) -> None:
    """Ctrl-C, Prefect's cancellation and a stop that reached the stage process are no failure."""
    assert ended_as(error) == status


@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (StageError("no"), "FAILED"), (TerminationSignal(15), "KILLED")],
)
def test_mlflow_says_how_a_run_ended(
    make_run: MakeRun, error: BaseException | None, status: str
) -> None:
    """Its settings and tags are there in all cases, and its stages are told its id."""
    prepared = make_run()
    with (
        pytest.raises(type(error)) if error else nullcontext(),
        open_run(prepared, TRACKED) as run,
    ):
        assert run.context["run_id"] == run.parent_run and prepared.parent_run == ""
        if error is not None:
            raise error
    found = connect(run.context["tracking_uri"]).get_run(run.parent_run)
    assert found.info.status == status and found.info.run_name == "shown"
    assert found.data.params["model.id"] == "m" and found.data.tags["retune.recipe"] == "r.yaml"


@pytest.mark.parametrize(
    ("file", "number", "told"),
    [
        (None, errno.ENOSPC, "no disk space left. Free some"),
        ("report.html", errno.EROFS, "report.html: cannot be written"),
    ],
)
def test_a_disk_that_takes_no_report_is_told_as_such(
    file: str | None, number: int, told: str, make_run: MakeRun
) -> None:
    """Advice with the file, or with the store where an error names none, as a write's does not."""
    run = make_run()
    named = () if file is None else (str(run.store.root / file),)
    with pytest.raises(ArtifactError, match=re.escape(told)) as caught, open_run(run):
        raise OSError(number, os.strerror(number), *named)
    assert str(run.store.root) in caught.value.message


def test_an_error_of_a_file_elsewhere_stays_as_it_is(
    make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It may be of reading, and the store has no part in it."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "rows.jsonl"
    with pytest.raises(PermissionError), open_run(make_run()):
        raise PermissionError(errno.EACCES, "no", str(elsewhere))


@pytest.mark.usefixtures("tracking")
def test_a_run_stands_below_another(make_run: MakeRun) -> None:
    """MLflow nests the run of a trial by the tag of its parent."""
    with (
        open_run(make_run(), TRACKED) as outer,
        open_run(outer, replace(TRACKED, below="a")) as run,
    ):
        found = connect(run.context["tracking_uri"]).get_run(run.parent_run)
    assert found.data.tags["mlflow.parentRunId"] == "a"


def test_a_run_that_is_not_tracked_asks_no_service(make_run: MakeRun) -> None:
    """It is current while it is open, and its process ends with it."""
    process: Any = Process()
    prepared = replace(make_run(tracking={"uri": "http://127.0.0.1:9"}), process=process)
    with pytest.raises(StageError), open_run(prepared) as run:
        assert CURRENT.get() is run and run.mirror is None and not process.stops
        raise StageError("no")
    assert process.stops == 1
    with pytest.raises(LookupError):
        CURRENT.get()


@pytest.mark.usefixtures("tracking")
def test_what_mlflow_did_not_get_is_told_at_the_end(make_run: MakeRun, told: Told) -> None:
    """A warning of the mirror is a note of the run."""
    with open_run(make_run(), TRACKED) as run:
        assert run.mirror is not None
        run.mirror.warnings.append("not sent")
    assert "not sent" in told.notes


def test_a_run_cannot_be_changed(make_run: MakeRun) -> None:
    """What is of one trial alone is put into a run of its own."""
    with pytest.raises(FrozenInstanceError):
        make_run().name = "other"  # type: ignore[misc]


def test_a_stage_of_the_device_runs_in_the_process_under_supervision(
    make_run: MakeRun, tmp_path: Any
) -> None:
    """What supervises is given the reporter; a stage without torch is left alone, and runs here."""
    process: Any = Process()
    other = SilentReporter()
    run = replace(make_run(), process=process, supervise=lambda *_: other)
    request = tiny_request(tmp_path)
    run.compute(replace(tiny, on_device=True), request, SilentReporter())
    assert process.asked == [other]
    run.compute(tiny, request, SilentReporter())
    assert len(process.asked) == 1 and run.store.root != tmp_path
    replace(run, process=None).compute(replace(tiny, on_device=True), request, SilentReporter())
    assert len(process.asked) == 1
