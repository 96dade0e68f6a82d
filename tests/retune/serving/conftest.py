"""A registry with a tiny version, and the command `retune serve` over it, a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.retune.registry.test_registering import Bench
from tests.tiny_models import REPOSITORY
from tests.waiting import free_port, wait_until

NAME = "served"


@dataclass
class Served:
    """A running `retune serve`.

    Attributes:
        process: The command.
        address: Where it answers.
        log: What it prints.
        headers: With its key.
    """

    process: subprocess.Popen[bytes]
    address: str
    log: Path
    headers: dict[str, str]

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.address}{path}", timeout=60)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return httpx.post(f"{self.address}{path}", json=body, headers=self.headers, timeout=120)

    def ready(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("/readyz").json()
        return found

    def wait_until_ready(self) -> None:
        self._wait_for("ready")

    def wait_until_unfit(self) -> None:
        self._wait_for("unfit")

    def _wait_for(self, status: str) -> None:
        def holds() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            try:
                return bool(self.ready()["status"] == status)
            except httpx.TransportError:
                return False

        wait_until(holds, what=f"a server that is {status}", every=0.2)

    def workers(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        return [each for each in children if "retune.serving.worker" in " ".join(each.cmdline())]


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Start `retune serve` with arguments; every one is ended with its module."""
    started: list[Served] = []

    def start(*arguments: str, key: str = "", variables: dict[str, str] | None = None) -> Served:
        port = free_port()
        log = tmp_path_factory.mktemp("served") / "log"
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "retune.cli", "serve", *arguments, "--port", str(port)],
                stdout=file,
                stderr=file,
                env={**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"}
                | (variables or {}),
            )
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        served = Served(process, f"http://127.0.0.1:{port}", log, headers)
        started.append(served)
        return served

    yield start
    for served in started:
        served.process.terminate()
    for served in started:
        try:
            served.process.wait(60)
        except subprocess.TimeoutExpired:
            served.process.kill()
            served.process.wait()


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return a store whose model `NAME` has one version, the champion; no test moves that."""
    made = Bench(tmp_path_factory.mktemp("store"))
    made.register(NAME, 1)
    return made
