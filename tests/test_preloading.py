"""Forked commands of tests are processes of their own, as those that are started from nothing."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.preloading import forker, may_fork, may_have_prefect, run_command, start_command
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
SHOWING_PREFECT = """
import logging, os, sys
if __name__ == "__main__":
    print([name for name in sys.modules if name.partition(".")[0] in ("prefect", "flows", "tasks")])
    os.environ["PREFECT_CLIENT_MAX_RETRIES"] = "3"
    os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
    print(logging.getLogger("prefect").level)
    import prefect
    import prefect.settings as made
    from prefect.utilities.dockerutils import get_prefect_image_name
    for each in (made.PREFECT_API_URL, made.PREFECT_HOME, made.PREFECT_CLIENT_MAX_RETRIES):
        print(each.value())
    print(prefect.Flow.__module__, prefect.__spec__.origin, logging.getLogger("prefect").level)
    for logger in (logging.getLogger("prefect"), logging.root):
        print(logger.level, [(type(each).__name__, each.level) for each in logger.handlers])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with some modules."""
    (tmp_path / "telling.py").write_text(TELLING, "utf-8")
    (tmp_path / "showing_prefect.py").write_text(SHOWING_PREFECT, "utf-8")
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


def test_a_fork_has_the_settings_of_prefect_that_a_cold_start_has(folder: Path) -> None:
    """Also those that it makes itself before it imports Prefect, of which it knows nothing then."""
    home = folder / "home"
    given = {"PREFECT_HOME": str(home), "PREFECT_API_URL": "http://prefect.test/api"}
    environment = {**forker(), **given}
    assert may_have_prefect(environment, folder)
    forked, cold = (
        run_command(
            "showing_prefect",
            [],
            folder=folder,
            environment=environment,
            timeout=GUARD_SECONDS,
            cold=each,
        )
        for each in (False, True)
    )
    assert forked.returncode == 0, forked.stderr
    lines = forked.stdout.splitlines()
    assert lines[:2] == ["[]", "0"]
    assert lines[2:5] == ["http://prefect.test/api", str(home), "3"]
    assert lines[5].endswith(f"__init__.py {logging.ERROR}")
    assert forked.stdout == cold.stdout
    assert home.is_dir()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("home/profiles.toml", 'active = "other"'),
        (".env", "PREFECT_API_URL=http://other/api"),
        ("prefect.toml", "[api]"),
        ("pyproject.toml", "[tool.prefect.api]"),
    ],
)
def test_where_prefect_has_more_to_read_it_is_not_imported_ahead(
    tmp_path: Path, name: str, text: str
) -> None:
    """A file, or a variable other than those that name home and server."""
    environment = {"PREFECT_HOME": str(tmp_path / "home"), "PATH": "/bin"}
    assert may_have_prefect(environment, tmp_path)
    assert not may_have_prefect({**environment, "PREFECT_TASKS_DEFAULT_RETRIES": "2"}, tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / name).write_text(text, "utf-8")
    assert not may_have_prefect(environment, tmp_path)


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
