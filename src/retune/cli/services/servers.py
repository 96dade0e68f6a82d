"""Servers and workers that a command starts: found on a port, watched, stopped with their children.

Each runs in a session of its own: Ctrl-C reaches the command alone, which then ends them in order.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from retune.errors import ServiceError
from retune.tracking import default_artifact_root

HOST = "127.0.0.1"
_START_SECONDS = 90.0
_STOP_SECONDS = 10.0


@dataclass
class Service:
    """One program that runs beside a command.

    Attributes:
        name: For people.
        command: Its command line.
        environment: All of its variables.
        address: Where people find it; empty for a worker.
        health: Where it is asked whether it answers; empty for a worker.
        log: File that gets what it prints; None for nowhere, or the terminal with ``--debug``.
        process: It, once it is started.
    """

    name: str
    command: list[str]
    environment: dict[str, str]
    address: str = ""
    health: str = ""
    log: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, without waiting."""
        from retune.cli import settings

        with ExitStack() as stack:
            output: IO[bytes] | int | None = None if settings.debug else subprocess.DEVNULL
            if self.log is not None and not settings.debug:
                self.log.parent.mkdir(parents=True, exist_ok=True)
                output = stack.enter_context(open(self.log, "ab"))
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return None if self.process is None else self.process.poll()

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            ServiceError: It ended, or did not answer in time.
        """
        if self.health and self.process is not None:
            try:
                wait_until_healthy(self.name, self.process, self.health)
            except ServiceError as error:
                raise ServiceError(f"{error.message} {self.say_log()}") from error

    def say_log(self) -> str:
        """Say where more stands."""
        return f"{self.log} says more." if self.log else "With --debug it shows its log."

    def stop(self) -> None:
        """End it and its children."""
        if self.process is not None:
            stop_server(self.process)


def refuse_taken_port(name: str, port: int, option: str, host: str = HOST) -> None:
    """Refuse a port that another program listens on.

    Args:
        name: Of the server that wants it.
        port: Its number.
        option: Of the command, with which another one is chosen.
        host: Address that it listens on.

    Raises:
        ServiceError: Somebody listens there, or the address is none of this machine.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As the servers bind: a port that was left a moment ago is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise taken_port(name, port, option, str(error.strerror), host) from error


def taken_port(name: str, port: int, option: str, cause: str, host: str = HOST) -> ServiceError:
    """Return what is said where a server cannot have its port.

    Args:
        name: Of the server.
        port: Its number.
        option: Of the command, with which another one is chosen.
        cause: What was found.
        host: Address that it wants to listen on.

    Returns:
        The error.
    """
    return ServiceError(
        f"{name} cannot have port {port} of {host} ({cause}): another program is there, perhaps "
        f"a {name} or a `retune up` of before. End it, or choose another port with {option}."
    )


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def prefect_server(port: int, log: Path | None = None) -> Service:
    """Describe a Prefect server over the user's own database.

    Args:
        port: Where it listens.
        log: File that gets what it prints.
    """
    address = f"http://{HOST}:{port}"
    environment = {
        **os.environ,
        # The UI calls the address of this setting, not that of --port.
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_API_URL": f"{address}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # In memory, a server that ends would leave the slots of its leases taken for ever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    return Service("Prefect", command, environment, address, f"{address}/api/health", log)


def mlflow_server(port: int, uri: str, root: Path, log: Path | None = None) -> Service:
    """Describe an MLflow server over a tracking database.

    Args:
        port: Where it listens.
        uri: Address of the database.
        root: Store folder, which holds its artifacts.
        log: File that gets what it prints.
    """
    address = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--backend-store-uri", uri, "--workers", "1"]
    command += ["--default-artifact-root", default_artifact_root(root)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return Service("MLflow", command, environment, address, f"{address}/health", log)


def wait_until_healthy(name: str, process: subprocess.Popen[bytes], address: str) -> None:
    """Wait until a server answers.

    Args:
        name: For people.
        process: The server.
        address: Where it is asked.

    Raises:
        ServiceError: It ended, or did not answer in time.
    """
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise ServiceError(f"{name} ended with exit code {process.returncode} while starting.")
        try:
            if httpx.get(address, timeout=2.0).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.3)
    raise ServiceError(f"{name} did not answer at {address} within {_START_SECONDS:.0f} s.")


def stop_server(process: subprocess.Popen[bytes]) -> None:
    """End a server and its workers: asked first, killed after a grace period.

    Args:
        process: The server, which leads a group of processes.
    """
    for wish in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, wish)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
