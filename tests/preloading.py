"""Commands and stage processes of tests, forked from one process that has imported the libraries.

Torch, transformers, peft and trl take 8 s of processor time to import, in each of the stage
processes of some hundred runs. A fork is a process like any other: arguments, environment, folder,
output, signals and exit code are its own. Prefect is never imported ahead, since it reads the
environment as it comes. Runs that are killed, that start servers, or whose environment a library
would read otherwise, are started from nothing (`cold`), as are all where ``RETUNE_TESTS_COLD`` is
set.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests import forking
from tests.forking import ADDRESS, Forked

_FREE = ("PREFECT_", "RETUNE_", "PYTEST_", "AWS_", "RAY_", "OMP_WAIT_POLICY", "COLUMNS")
"""Variables that nothing which is imported ahead reads as it comes."""
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
            )
    return Started(process, out, err)


def may_fork(environment: Mapping[str, str]) -> bool:
    """Return whether a process with these variables may be a fork."""
    if sys.platform != "linux" or "RETUNE_TESTS_COLD" in os.environ:
        return False
    return _read_early(environment) == _read_early(forker())


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
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(address)
    listening.listen(64)
    STARTED.append(
        subprocess.Popen(
            [sys.executable, "-P", str(forking.__file__), str(listening.fileno())],
            env=kept,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[listening.fileno()],
        )
    )
    listening.close()
    return kept


def stop() -> None:
    """End the process that forks, and with it what it has forked."""
    for process in STARTED:
        process.terminate()
        process.wait()
        shutil.rmtree(Path(os.environ[ADDRESS]).parent, ignore_errors=True)
