"""The servers that are compared, each a process with its workers, measured from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import psutil

from benchmarks.bench.hardware import THREADS
from benchmarks.bench.shipped import BASE, REPOSITORY
from benchmarks.serve_load.asking import Place
from tests.waiting import free_port

_START_SECONDS = 300.0
WORKER = "retune.serving.worker"


class ServerProcess:
    """A server that was started, and what it takes.

    Args:
        words: Its command, without the port.
        log: File for what it prints.
        variables: Beside those of this process.
    """

    def __init__(
        self, words: Sequence[str], log: Path, variables: Mapping[str, str] | None = None
    ) -> None:
        self._log, self.place = log, Place("127.0.0.1", free_port())
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, *words, "--port", str(self.place.port)],
                cwd=REPOSITORY,
                env={
                    **os.environ,
                    **THREADS,
                    "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)]),
                    "HF_HUB_OFFLINE": "1",
                    "TOKENIZERS_PARALLELISM": "false",
                    **(variables or {}),
                },
                stdout=file,
                stderr=file,
            )

    def wait(self, path: str) -> None:
        """Wait until a route answers with 200.

        Args:
            path: Of the route.
        """
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{self.place.port}{path}").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        sys.exit(f"the server is not there:\n{self._log.read_text('utf-8', 'replace')[-3000:]}")

    def _all(self) -> list[psutil.Process]:
        process = psutil.Process(self._process.pid)
        return [process, *process.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Return user and system time of its processes, and of those that have ended."""
        times = [each.cpu_times() for each in self._all()]
        ended = times[0].children_user + times[0].children_system
        return float(ended + sum(each.user + each.system for each in times))

    def resident_bytes(self) -> int:
        """Return what its processes hold in memory, shared pages in each."""
        return sum(int(each.memory_info().rss) for each in self._all())

    def workers(self) -> list[psutil.Process]:
        """Return retune's processes that hold a model, the one that was started last at the end."""
        found = [each for each in self._all() if WORKER in " ".join(each.cmdline())]
        return sorted(found, key=lambda each: float(each.create_time()))

    def close(self) -> None:
        """End it and its workers."""
        started = self._all() if self._process.poll() is None else []
        for each in started:
            each.kill()
        self._process.wait()


def start_retune(folder: Path, model: str = str(BASE), *options: str) -> ServerProcess:
    """Start `retune serve`, and wait until its model is proved.

    Args:
        folder: For its log.
        model: What it serves.
        options: Further ones of the command.
    """
    words = ["-m", "retune.cli", "serve", model, *options]
    server = ServerProcess(words, folder / "retune.log")
    server.wait("/readyz")
    return server
