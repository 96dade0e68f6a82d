"""A process that answers one line of JSON with another, and is killed when it is late.

What runs in it is trusted neither to end nor to survive: queries, patterns, other people's code.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import psutil

from retune.errors import ScoringError

_START_SECONDS = 30.0  # a loaded machine; normally 0.05
_READ_BYTES = 65536
_LOOK_EVERY_SECONDS = 0.02

Reply = dict[str, Any]


class AskedProcess:
    """A process that is started when needed, and again after it was killed.

    It says ``{"status": "ready"}`` once it can be asked, and answers each request with an object
    that has a `status`. Use it as a context manager, from one thread: the kernel ends the process
    with the thread that started it, where it asked for that.

    Args:
        command: Program and arguments.
        name: What it is called in messages.
        environment: Its variables; None for those of this process.
        quiet: Whether what it writes to standard error is thrown away.
        start_seconds: How long it may take until it is ready.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str,
        environment: Mapping[str, str] | None = None,
        quiet: bool = True,
        start_seconds: float = _START_SECONDS,
    ) -> None:
        self._command, self._name, self._environment = list(command), name, environment
        self._quiet, self._start_seconds = quiet, start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        """How many processes there have been: what an earlier one held is gone."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def exchange(
        self, request: Mapping[str, Any], *, clock_seconds: float, seconds: float | None = None
    ) -> Reply:
        """Have the process do one thing.

        Args:
            request: What it is asked.
            clock_seconds: Seconds of the clock until its answer is late.
            seconds: The same of its own processor time; None for as much as it likes.

        Returns:
            The answer; its `status` is `timeout` when it was late, `crashed` when it died. In both
            cases, and after `out_of_memory`, the next call has a new process.

        Raises:
            ScoringError: It cannot be started on this machine.
        """
        process = self._running()
        line = (json.dumps(request) + "\n").encode("ascii")
        reply = _exchange(process, line, seconds, clock_seconds)
        if reply["status"] in ("timeout", "crashed", "out_of_memory"):
            self.kill()
        return reply

    def kill(self) -> None:
        """End the process, if there is one, and wait until it is gone."""
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
        """Whether the process that was started last still runs."""
        return self._process is not None and self._process.poll() is None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self.is_running:
            return self._process
        self.kill()
        self._process = self._start()
        self.starts += 1
        # Starting is not the request's fault, so its time is not the request's either.
        greeting = _exchange(self._process, b"", None, self._start_seconds)
        if greeting["status"] != "ready":
            self.kill()
            raise ScoringError(
                f"{self._name} did not start: {greeting['detail']}. Expected it to be ready "
                f"within {self._start_seconds:.0f} s; run {self._command[0]} by hand."
            )
        return self._process

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL if self._quiet else None,
                bufsize=0,
                cwd="/" if self._environment is not None else None,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            raise ScoringError(
                f"{self._name} could not be started ({error.strerror}); expected to run "
                f"{self._command[0]}. Check the machine's process and memory limits."
            ) from error


def _exchange(
    process: subprocess.Popen[bytes], request: bytes, seconds: float | None, clock_seconds: float
) -> Reply:
    """Send a request and read one line, within seconds of the process' time and of the clock's."""
    if process.stdin is None or process.stdout is None:  # for the type checker: both are pipes
        return {"status": "crashed", "detail": ""}
    source, sink = process.stdout.fileno(), process.stdin.fileno()
    os.set_blocking(sink, False)
    unsent, received = memoryview(request), b""
    own_until = None if seconds is None else _processor_seconds(process) + seconds
    until = time.monotonic() + clock_seconds
    left = clock_seconds if seconds is None else min(seconds, clock_seconds)
    while not received.endswith(b"\n"):
        if left <= 0:
            return {"status": "timeout", "detail": "it did not answer in time and was killed"}
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
        left = until - time.monotonic()
        if own_until is not None:
            # One thread takes no more of its own time than passes on the clock.
            left = min(left, own_until - _processor_seconds(process))
    reply: Reply = json.loads(received)
    return reply


def _processor_seconds(process: subprocess.Popen[bytes]) -> float:
    try:
        times = psutil.Process(process.pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0  # Its pipe says so next.
    return float(times.user + times.system)


def _crashed(process: subprocess.Popen[bytes]) -> Reply:
    return {"status": "crashed", "detail": f"it died (exit status {process.wait()})"}
