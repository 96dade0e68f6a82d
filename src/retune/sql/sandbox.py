"""The parent's side of the worker process: start, ask, kill, start again."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from retune.errors import ScoringError
from retune.sql.records import SqlLimits

_SOURCE_ROOT = Path(__file__).resolve().parents[2]
# Isolated (-I) and without site-packages (-S): neither the environment nor an installed .pth
# decides what runs in there. Appended, not first, so that nothing beside retune shadows the
# standard library.
_BOOT = "import sys; sys.path.append({root!r}); from retune.sql.worker import main; main()"
_START_SECONDS = 30.0  # a loaded machine; normally 0.05
_READ_BYTES = 65536
_LOOK_EVERY_SECONDS = 0.02
_BUSY_MACHINE = 20
"""How many seconds of the clock a second of a query may take: other processes have a part of the
time. Also ends a worker that waits for a disk, which takes no processor time."""


class SqlSandbox:
    """A worker process that is started when needed and killed when it is late.

    Use it as a context manager, from one thread: the kernel ends the worker with the thread that
    started it.

    Args:
        limits: What one statement may cost.
    """

    def __init__(self, limits: SqlLimits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        """How many workers there have been: a database opened in an earlier one is gone."""

    def __enter__(self) -> SqlSandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def ask(self, op: str, *, deadline_s: float, **fields: Any) -> dict[str, Any]:
        """Have the worker do one thing.

        Args:
            op: `open`, `gold`, `probe`, `prepare`, `show` or `prediction`.
            deadline_s: Seconds of processor time until its answer is late.
            **fields: What the operation needs.

        Returns:
            The answer; its `status` is `timeout` when the worker was late, `crashed` when it
            died. In both cases the next call has a new worker without an open database.

        Raises:
            ScoringError: No worker process can be started on this machine.
        """
        process = self._running()
        request = json.dumps({"op": op, "deadline_s": deadline_s, **fields}) + "\n"
        seconds = deadline_s + self._limits.grace_s
        reply = _exchange(process, request.encode("ascii"), seconds, _BUSY_MACHINE * seconds)
        if reply["status"] in ("timeout", "crashed", "out_of_memory"):
            self.kill()
        return reply

    def kill(self) -> None:
        """End the worker, if there is one, and wait until it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def is_running(self) -> bool:
        """Whether the worker that was started last still runs."""
        return self._process is not None and self._process.poll() is None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self.is_running:
            return self._process
        self.kill()
        self._process = self._start()
        self.starts += 1
        # Starting Python is not the query's fault, so its time is not the query's either.
        greeting = _exchange(self._process, b"", _START_SECONDS, _START_SECONDS)
        if greeting["status"] != "ready":
            self.kill()
            raise ScoringError(
                f"The SQL worker did not start: {greeting['detail']}. Expected it to be ready "
                f"within {_START_SECONDS:.0f} s; run `{sys.executable} -c 'import sqlite3'`."
            )
        return self._process

    def _start(self) -> subprocess.Popen[bytes]:
        boot = _BOOT.format(root=str(_SOURCE_ROOT))
        arguments = [self._limits.model_dump_json(), str(os.getpid())]
        try:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", boot, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd="/",
                env={},
                start_new_session=True,
            )
        except OSError as error:
            raise ScoringError(
                f"The SQL worker could not be started ({error.strerror}); "
                f"expected to run {sys.executable}. Check the machine's process and memory limits."
            ) from error


def _exchange(
    process: subprocess.Popen[bytes], request: bytes, seconds: float, clock_seconds: float
) -> dict[str, Any]:
    """Send a request and read one line, within seconds of the worker's time and of the clock's."""
    if process.stdin is None or process.stdout is None:  # for the type checker: both are pipes
        return {"status": "crashed", "detail": ""}
    source, sink = process.stdout.fileno(), process.stdin.fileno()
    os.set_blocking(sink, False)
    unsent, received = memoryview(request), b""
    used, until = _processor_seconds(process), time.monotonic() + clock_seconds
    left = min(seconds, clock_seconds)
    while not received.endswith(b"\n"):
        if left <= 0:
            return {"status": "timeout", "detail": "the worker did not answer and was killed"}
        readable, writable, _ = select.select(
            [source], [sink] if unsent else [], [], max(left, _LOOK_EVERY_SECONDS)
        )
        try:
            if writable:
                unsent = unsent[os.write(sink, unsent) :]
            if readable:
                piece = os.read(source, _READ_BYTES)
                received += piece
                if not piece:
                    return _crashed(process)
        except BrokenPipeError:
            return _crashed(process)
        # One thread takes no more of its own time than passes on the clock.
        left = min(seconds - (_processor_seconds(process) - used), until - time.monotonic())
    reply: dict[str, Any] = json.loads(received)
    return reply


def _processor_seconds(process: subprocess.Popen[bytes]) -> float:
    try:
        times = psutil.Process(process.pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0  # Its pipe says so next.
    return float(times.user + times.system)


def _crashed(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    return {"status": "crashed", "detail": f"the worker died (exit status {process.wait()})"}
