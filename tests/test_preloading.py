"""Forked commands of tests are processes of their own, as those that are started from nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.preloading import forker, may_fork, run_command, start_command
from tests.waiting import GUARD_SECONDS, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks are made on Linux alone"),
]

TELLING = """
import os, sys
if __name__ == "__main__":
    print(sys.argv[1:], os.getcwd(), os.environ.get("RETUNE_TOLD"), "torch" in sys.modules)
    print("é", file=sys.stderr)
    sys.exit(int(sys.argv[1]))
"""
WAITING = """
import time
print("begun", flush=True)
while True:
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two modules."""
    (tmp_path / "telling.py").write_text(TELLING, "utf-8")
    (tmp_path / "waiting_module.py").write_text(WAITING, "utf-8")
    return tmp_path


def tell(folder: Path, code: int, *, cold: bool) -> subprocess.CompletedProcess[str]:
    return run_command(
        "telling",
        [str(code), "two words"],
        folder=folder,
        environment={**forker(), "RETUNE_TOLD": "yes"},
        timeout=GUARD_SECONDS,
        cold=cold,
    )


@pytest.mark.parametrize("code", [0, 3])
def test_a_fork_has_the_arguments_folder_variables_output_and_code_of_a_cold_start(
    folder: Path, code: int
) -> None:
    """All is equal, but that torch is there already."""
    forked, cold = tell(folder, code, cold=False), tell(folder, code, cold=True)
    assert forked.returncode == cold.returncode == code
    assert forked.stderr == cold.stderr == "é\n"
    assert forked.stdout.replace("True", "False") == cold.stdout
    assert forked.stdout.endswith("True\n")
    assert cold.stdout == f"['{code}', 'two words'] {folder} yes False\n"


def test_a_fork_that_a_signal_ends_says_so(folder: Path) -> None:
    """The code is negative, as that of `subprocess.Popen`."""
    started = start_command("waiting_module", [], folder=folder, environment=forker())
    wait_until(lambda: os.fstat(started.out.fileno()).st_size, what="the first line")
    assert started.process.poll() is None
    started.process.send_signal(signal.SIGTERM)
    done = started.finish(GUARD_SECONDS)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "begun\n")


def test_forks_do_not_know_of_each_other(folder: Path) -> None:
    """Two at once: one is ended, the other goes on."""
    environment = forker()
    one = start_command("waiting_module", [], folder=folder, environment=environment)
    two = start_command("waiting_module", [], folder=folder, environment=environment)
    assert one.process.pid != two.process.pid
    one.process.kill()
    assert one.finish(GUARD_SECONDS).returncode == -signal.SIGKILL
    assert two.process.poll() is None
    two.process.kill()
    assert two.finish(GUARD_SECONDS).returncode == -signal.SIGKILL


@pytest.mark.parametrize("name", ["HF_HOME", "MLFLOW_LOGGING_LEVEL", "TOKENIZERS_PARALLELISM"])
def test_what_a_library_reads_as_it_is_imported_asks_for_a_cold_start(name: str) -> None:
    """It has been imported with another value."""
    assert may_fork({**forker(), "PREFECT_HOME": "elsewhere"})
    assert not may_fork({**forker(), name: "other"})
