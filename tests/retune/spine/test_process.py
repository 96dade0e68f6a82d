"""The process that runs stages: what gets through to the parent, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retune.errors import DataError, Interrupted, StageDied, StageError
from retune.spine.process import StageProcess
from retune.spine.stage import SilentReporter
from tests.retune.tiny_stages import request as tiny_request
from tests.waiting import wait_until

REPOSITORY = Path(__file__).parents[3]
TABLE = "tests.retune.tiny_stages:STAGES"


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StageProcess]:
    """A stage process that knows the tiny stages and imports nothing heavy."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)]))
    started = StageProcess(tmp_path / "log.txt", table=TABLE, import_ahead="json")
    yield started
    started.stop()


class Events:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def started(self) -> None:
        self.seen.append(("started",))

    def progress(self, what: str, done: int, total: int) -> None:
        self.seen.append((what, done, total))

    def metric(self, name: str, value: float, step: int) -> None:
        self.seen.append((name, value, step))

    def log(self, message: str) -> None:
        self.seen.append((message,))


def test_events_arrive_in_order_and_the_record_last(process: StageProcess, tmp_path: Path) -> None:
    """Progress, metrics and log lines come while the stage runs; the record is the stored one."""
    events = Events()
    record = process.run(tiny_request(tmp_path / "store", act="report", number=3), events)
    assert events.seen == [
        ("started",),
        ("começa",),
        ("parts", 1, 3),
        ("loss", 1.0, 1),
        ("parts", 2, 3),
        ("loss", 0.5, 2),
        ("parts", 3, 3),
        ("loss", 1 / 3, 3),
    ]
    assert record["number"] == 3
    assert (Path(record["folder"]) / "manifest.json").is_file()


def test_an_error_keeps_its_type_and_message(process: StageProcess, tmp_path: Path) -> None:
    """The parent raises what the stage raised, and the process serves on."""
    with pytest.raises(DataError) as caught:
        process.run(tiny_request(tmp_path, act="fail"), SilentReporter())
    assert str(caught.value) == "linha 7: não é texto"
    first = process._process
    assert process.run(tiny_request(tmp_path, number=2), SilentReporter())["number"] == 2
    assert process._process is first


def test_a_foreign_error_becomes_a_stage_error(process: StageProcess, tmp_path: Path) -> None:
    """It names the stage and the type; the traceback goes along for --debug."""
    with pytest.raises(StageError) as caught:
        process.run(tiny_request(tmp_path, act="crash"), SilentReporter())
    assert str(caught.value) == "tiny: ZeroDivisionError: by hand"
    assert "tiny_stages.py" in "".join(caught.value.__notes__)


def test_noise_on_standard_output_does_no_harm(process: StageProcess, tmp_path: Path) -> None:
    """Whatever libraries print, a forged event included, goes to the log and nowhere else."""
    record = process.run(tiny_request(tmp_path, act="noise", number=4), SilentReporter())
    assert record["number"] == 4
    assert b"last words" in process.log.read_bytes()


def kill_when_waiting(place: Path, number: int) -> threading.Thread:
    """Send a signal to the stage that writes its process id to `place`."""

    def wait_and_kill() -> None:
        wait_until(lambda: place.exists() and place.read_text() != "", what="the stage")
        os.kill(int(place.read_text()), number)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


def test_a_killed_process_is_told_and_the_next_run_restarts(
    process: StageProcess, tmp_path: Path
) -> None:
    """Kill -9 becomes StageDied with the log's last lines; running again starts a new process."""
    place = tmp_path / "pid.txt"
    killer = kill_when_waiting(place, signal.SIGKILL)
    with pytest.raises(StageDied, match=r"SIGKILL(.|\n)*about to wait") as caught:
        process.run(tiny_request(tmp_path, act="once", place=str(place)), SilentReporter())
    killer.join()
    assert "run again to go on" in str(caught.value)
    record = process.run(tiny_request(tmp_path, act="once", place=str(place)), SilentReporter())
    assert record["number"] == 1


def test_a_process_that_died_between_two_stages_is_replaced(
    process: StageProcess, tmp_path: Path
) -> None:
    """Nothing was asked of it when it died, so that nothing has to be told."""
    process.run(tiny_request(tmp_path, number=1), SilentReporter())
    assert process._process is not None
    process._process.kill()
    process._process.wait()
    assert process.run(tiny_request(tmp_path, number=2), SilentReporter())["number"] == 2


def test_sigterm_stops_a_stage(process: StageProcess, tmp_path: Path) -> None:
    """A stage without a safe point of its own stops at once, with its own error."""
    place = tmp_path / "pid.txt"
    killer = kill_when_waiting(place, signal.SIGTERM)
    # It would sleep for an hour.
    with pytest.raises(Interrupted, match="Finished stages and checkpoints are kept"):
        process.run(tiny_request(tmp_path, act="wait", place=str(place)), SilentReporter())
    killer.join()


def test_stop_ends_an_idle_process(process: StageProcess, tmp_path: Path) -> None:
    """Asked to stop, it leaves by itself: it is not killed."""
    process.run(tiny_request(tmp_path), SilentReporter())
    child = process._process
    process.stop()
    assert child is not None and child.returncode is not None
    assert child.returncode != -signal.SIGKILL


def test_a_failing_reporter_does_not_mix_up_two_stages(
    process: StageProcess, tmp_path: Path
) -> None:
    """The abandoned stage's last events must not be taken for the next one's."""

    class Failing(SilentReporter):
        def progress(self, what: str, done: int, total: int) -> None:
            raise ValueError("the screen is gone")

    with pytest.raises(ValueError, match="the screen is gone"):
        process.run(tiny_request(tmp_path, act="report", number=1), Failing())
    record = process.run(tiny_request(tmp_path, number=2), SilentReporter())
    assert record["number"] == 2


PARENT = """
import sys
from pathlib import Path
from retune.spine.stage import SilentReporter
from retune.spine.process import StageProcess
from tests.retune.tiny_stages import request
folder = Path(sys.argv[1])
process = StageProcess(folder / "log.txt", table=sys.argv[2], import_ahead="json")
process.run(request(folder, act="wait", place=str(folder / "pid.txt")), SilentReporter())
"""


def test_the_death_of_the_parent_ends_the_process(tmp_path: Path) -> None:
    """A parent killed with -9 cannot say goodbye; its child must not hold the device for ever."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), TABLE],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    place = tmp_path / "pid.txt"
    wait_until(lambda: place.exists() and place.read_text() != "", what="the stage")
    child = int(place.read_text())
    assert _runs(child)
    parent.kill()
    parent.wait()
    wait_until(lambda: not _runs(child), what="the child's end")


def test_the_current_folder_cannot_shadow_a_library(
    process: StageProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's own `queue.py` next to the recipe is not what the process imports."""
    (tmp_path / "queue.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    assert process.run(tiny_request(tmp_path / "store"), SilentReporter())["number"] == 1


def _runs(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
