"""Commands and stage processes of tests, forked from one process that has imported the libraries.

Torch, transformers, peft and trl take 8 s of processor time to import, in each of the stage
processes of some hundred runs. A fork is a process like any other: arguments, environment, folder,
output, signals and exit code are its own. Prefect reads environment and files as it comes: it is
imported ahead for those runs that say no more of it than where its home and its server are, and
reads these again as they import it. Runs that are killed, that start servers, or whose environment
a library would read otherwise, are started from nothing (`cold`), as are all where
``RETUNE_TESTS_COLD`` is set.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests import forking
from tests.forking import ADDRESS, WITH_PREFECT, Forked

_FREE = ("PREFECT_", "RETUNE_", "PYTEST_", "AWS_", "RAY_", "OMP_WAIT_POLICY", "COLUMNS")
"""Variables that nothing which is imported ahead reads as it comes."""
_PLAIN = {
    *("PREFECT_HOME", "PREFECT_API_URL", "PREFECT_SERVER_ANALYTICS_ENABLED"),
    "PREFECT_LOGGING_TO_API_ENABLED",
}
"""Variables of Prefect that no declaration of a flow or task depends on."""
STARTED: list[subprocess.Popen[bytes]] = []
"""The process that forks, once there is one."""


def run_command(
    program: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout: float,
    cold: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a module as ``python -m`` does, and return what it printed.

    Args:
        program: The module.
        arguments: Of the module.
        folder: Where it runs.
        environment: All of its variables.
        timeout: Seconds after which it is killed, and an error raised.
        cold: Start it from nothing.
    """
    return start_command(
        program, arguments, folder=folder, environment=environment, cold=cold
    ).finish(timeout)


class Started:
    """A command under way."""

    def __init__(self, process: Forked | subprocess.Popen[bytes], out: IO[Any], err: IO[Any]):
        self.process, self.out, self._err = process, out, err

    def finish(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Wait for its end, and return what it printed."""
        try:
            code = self.process.wait(timeout)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        texts = []
        for file in (self.out, self._err):
            file.seek(0)
            texts.append(file.read())
            file.close()
        return subprocess.CompletedProcess(self.process.args, code, *texts)


def start_command(
    program: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    cold: bool = False,
) -> Started:
    """Start a module as ``python -m`` does."""
    # Closed by `finish`.
    out, err = (tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2))  # noqa: SIM115
    process: Forked | subprocess.Popen[bytes]
    if cold or not may_fork(environment):
        command = [sys.executable, "-m", program, *arguments]
        process = subprocess.Popen(
            command, stdout=out, stderr=err, cwd=folder, env=dict(environment)
        )
    else:
        with open(os.devnull, "rb") as nothing:
            process = Forked(
                program,
                arguments,
                folder=folder,
                environment={**environment, ADDRESS: os.environ[ADDRESS]},
                handles={0: nothing.fileno(), 1: out.fileno(), 2: err.fileno()},
                with_prefect=may_have_prefect(environment, folder),
            )
    return Started(process, out, err)


def may_fork(environment: Mapping[str, str]) -> bool:
    """Return whether a process with these variables may be a fork."""
    if sys.platform != "linux" or "RETUNE_TESTS_COLD" in os.environ:
        return False
    return _read_early(environment) == _read_early(forker())


def may_have_prefect(environment: Mapping[str, str], folder: Path) -> bool:
    """Return whether Prefect has nothing to read there but its home and its server's address."""
    stated = {name for name in environment if name.startswith("PREFECT_")}
    home = environment.get("PREFECT_HOME")
    if stated - _PLAIN or home is None or (Path(home) / "profiles.toml").exists():
        return False
    if any((folder / name).exists() for name in (".env", "prefect.toml")):
        return False
    project = folder / "pyproject.toml"
    return not project.exists() or "prefect" not in _read_tools(project)


def _read_tools(project: Path) -> Mapping[str, Any]:
    tools: dict[str, Any] = tomllib.loads(project.read_text("utf-8")).get("tool", {})
    return tools


def _read_early(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if not name.startswith(_FREE)}


@functools.cache
def forker() -> Mapping[str, str]:
    """Start the process that forks, once for a test process, and return its environment."""
    folder = tempfile.mkdtemp(prefix="retune-forks-")
    address = f"{folder}/forks"
    # MLflow's are those of `connect`, set for the tests that call it in their own process.
    kept = {k: v for k, v in _read_early(os.environ).items() if not k.startswith("MLFLOW_")}
    kept |= {"OMP_WAIT_POLICY": "PASSIVE"}
    os.environ[ADDRESS] = address
    listening = [_listen(address), _listen(address + WITH_PREFECT)]
    handles = [each.fileno() for each in listening]
    home = f"{folder}/prefect"
    STARTED.append(
        subprocess.Popen(
            [sys.executable, "-P", str(forking.__file__), *map(str, handles), home],
            env=kept,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=handles,
        )
    )
    for each in listening:
        each.close()
    return kept


def _listen(address: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(address)
    listening.listen(64)
    return listening


def stop() -> None:
    """End the process that forks, and with it what it has forked."""
    for process in STARTED:
        process.terminate()
        process.wait()
        shutil.rmtree(Path(os.environ[ADDRESS]).parent, ignore_errors=True)
