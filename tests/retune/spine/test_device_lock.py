"""One run on a device at a time: whoever comes second waits, and no death keeps it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from retune.spine.device_lock import FOLDER_VARIABLE, find_device_lock
from retune.spine.process import StageProcess
from retune.spine.stage import SilentReporter
from tests.retune.tiny_stages import request as tiny_request
from tests.waiting import GUARD_SECONDS, wait_until

REPOSITORY = Path(__file__).parents[3]
TABLE = "tests.retune.tiny_stages:STAGES"

HOLDER = """
import sys
from pathlib import Path
from retune.spine.process import StageProcess
from retune.spine.stage import SilentReporter
from tests.retune.tiny_stages import request
folder = Path(sys.argv[1])
process = StageProcess(folder / "log.txt", table=sys.argv[2], import_ahead="json")
process.run(request(folder / "store", act="wait", place=str(folder / "pid.txt")), SilentReporter())
"""


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the locks, named in the environment of this process and its children."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "locks"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "locks"


def test_a_second_run_waits_until_the_first_one_stops(locks: Path, tmp_path: Path) -> None:
    """Between two stages the first one's model is still loaded: its turn ends with its process."""
    first, second = (
        StageProcess(tmp_path / name, table=TABLE, import_ahead="json") for name in ("one", "two")
    )
    first.run(tiny_request(tmp_path / "store"), SilentReporter())
    told: list[str] = []
    waiting = threading.Thread(target=second.claim_device, args=(told.append,))
    waiting.start()
    wait_until(lambda: told, what="the second run to say that it waits")
    assert waiting.is_alive() and f"the run of process {os.getpid()} has it" in told[0]
    first.stop()
    waiting.join(GUARD_SECONDS)
    assert not waiting.is_alive()
    second.stop()


def test_a_killed_run_gives_the_device_back(locks: Path, tmp_path: Path) -> None:
    """Killed with -9, flow and stage process leave nothing that anybody has to clear away."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path), TABLE], cwd=REPOSITORY)
    place = tmp_path / "pid.txt"
    wait_until(lambda: place.exists() and place.read_text(), what="the stage that holds it")
    told: list[str] = []
    mine = find_device_lock()
    waiting = threading.Thread(target=mine.take, args=(told.append,))
    waiting.start()
    wait_until(lambda: told, what="the wait for the device")
    assert f"process {holder.pid}" in told[0]
    holder.send_signal(signal.SIGKILL)
    holder.wait(GUARD_SECONDS)
    waiting.join(GUARD_SECONDS)
    assert not waiting.is_alive()
    mine.release()


def test_a_process_that_died_is_replaced_without_giving_the_device_away(
    locks: Path, tmp_path: Path
) -> None:
    """A stage that is tried again goes on at once, whoever waits for the device."""
    process = StageProcess(tmp_path / "log", table=TABLE, import_ahead="json")
    process.run(tiny_request(tmp_path / "store", number=1), SilentReporter())
    assert process._process is not None
    process._process.kill()
    process._process.wait()
    process.start()
    with open(locks / "device-all.lock") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert process.run(tiny_request(tmp_path / "store", number=2), SilentReporter())["number"] == 2
    process.stop()


def test_each_device_has_a_lock_of_its_own(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that see different GPUs do not wait; a device named twice is taken once."""
    taken = []
    for visible in ("0,0", "1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        lock = find_device_lock()
        lock.take(pytest.fail)
        taken.append(lock)
    assert sorted(path.name for path in locks.iterdir()) == ["device-0.lock", "device-1.lock"]
    for lock in taken:
        lock.release()


def test_without_the_variable_runs_share_the_device(
    locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commands in two terminals go on as they always did."""
    monkeypatch.delenv(FOLDER_VARIABLE)
    for lock in (find_device_lock(), find_device_lock()):
        lock.take(pytest.fail)
    assert not locks.exists()
