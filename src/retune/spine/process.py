"""The process that holds torch and the device, and runs one stage after the other.

The flow starts it at the first stage that needs it (spawned, one per flow run). Requests go to its
standard input, events come back on a pipe of their own, one JSON object a line; whatever libraries
print goes to a log file. It ends when its parent does: standard input then reaches its end.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import retune.errors as errors
from retune.errors import RetuneError, StageDied, StageError
from retune.spine.device_lock import find_device_lock
from retune.spine.importing import import_at_once
from retune.spine.stage import TABLE, Reporter, StageRequest, load_table, run_stage
from retune.spine.stopping import STOP

STOP_GRACE_SECONDS = 30.0
"""How long a training may take to seal its last checkpoint before it is killed."""
_LOG_LINES_SHOWN = 8


def start_process(
    arguments: Sequence[str],
    log: IO[str],
    handles: Sequence[int],
    environment: Mapping[str, str],
) -> subprocess.Popen[str]:
    """Start this module as a process.

    Args:
        arguments: Of `serve`.
        log: Gets what it prints.
        handles: File descriptors that it inherits.
        environment: All of its variables.

    Returns:
        The process, with its standard input open.
    """
    return subprocess.Popen(
        # -P: no module of the folder that a user happens to stand in.
        [sys.executable, "-P", "-m", "retune.spine.process", *arguments],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        pass_fds=handles,
        env=environment,
        encoding="utf-8",
    )


class StageProcess:
    """The parent's side: starts the process, sends requests, passes events on.

    Args:
        log: File for what the process prints.
        table: ``module:name`` of the stages that it knows.
        import_ahead: Module that it imports at once, while the parent works.
    """

    def __init__(
        self,
        log: Path,
        *,
        table: str = TABLE,
        import_ahead: str = "retune.training.supervised",
    ) -> None:
        self.log = log
        self._arguments = (table, import_ahead)
        self._process: subprocess.Popen[str] | None = None
        self._events: IO[str] | None = None
        self._device = find_device_lock()

    def start(self) -> None:
        """Start the process unless it runs; its imports go on while other work is done."""
        if self._process is not None and self._process.poll() is None:
            return
        self._end()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        read_end, write_end = os.pipe()
        with open(self.log, "a", encoding="utf-8") as log:
            self._process = start_process(
                (str(write_end), *self._arguments),
                log,
                (write_end, *self._device.open()),
                # OpenMP's threads spin while they wait: on few cores they take the time from the
                # one that works, and training is twice as slow. What libraries print goes to a
                # file in UTF-8; in the encoding of the user's terminal it could end a stage.
                {
                    "OMP_WAIT_POLICY": "PASSIVE",
                    **os.environ,
                    "PYTHONIOENCODING": "utf-8:backslashreplace",
                },
            )
        os.close(write_end)
        self._events = os.fdopen(read_end, encoding="utf-8")

    def claim_device(self, tell: Callable[[str], object]) -> None:
        """Wait until this run alone has the device, where runs take turns on it.

        It is kept until `stop`, also while a process that died is replaced: whoever holds a slot
        of Prefect's by then must never have to wait for the device.

        Args:
            tell: Is told once who is waited for.
        """
        self._device.take(tell)

    def run(self, request: StageRequest, reporter: Reporter) -> dict[str, Any]:
        """Run one stage there and wait for it.

        Args:
            request: What to run.
            reporter: Gets the stage's progress, metrics and log lines.

        Returns:
            The sealed record as JSON.

        Raises:
            RetuneError: What the stage raised.
            StageDied: The process died.
        """
        self.start()
        self.claim_device(reporter.log)
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(request.model_dump_json() + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died(request.stage) from None
        try:
            outcome = self._follow(request.stage, reporter)
        except BaseException:
            # Ctrl-C, Prefect's cancellation (a BaseException of its own), or a reporter that
            # failed: the child is still busy, and its next events would be taken for the answer
            # to the next request.
            self.stop()
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _follow(self, stage: str, reporter: Reporter) -> dict[str, Any] | Exception:
        assert self._events is not None
        for line in self._events:
            event = json.loads(line)
            match event.pop("event"):
                case "started":
                    reporter.started()
                case "progress":
                    reporter.progress(**event)
                case "metric":
                    reporter.metric(**event)
                case "log":
                    reporter.log(**event)
                case "done":
                    return dict(event["record"])
                case "failed":
                    return _rebuild_error(stage, event)
        raise self._died(stage)

    def stop(self) -> None:
        """End the process, asked first and killed after a grace period; let the device go."""
        self._end()
        self._device.release()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for stream in (process.stdin, self._events):
            # A dead reader makes closing raise, and there is nothing left to say to it.
            with contextlib.suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()

    def _died(self, stage: str) -> StageDied:
        assert self._process is not None
        try:
            code = self._process.wait(STOP_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            # Its pipe is closed and yet it lives: nothing that it still does could be heard.
            self._process.kill()
            code = self._process.wait()
        self._end()
        tail = self.log.read_text("utf-8", errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        cause = _cause_of_death(code)
        return StageDied(
            f"{stage}: the stage process died ({cause}). Finished stages and checkpoints are "
            f"kept: run again to go on. Last lines of {self.log}:\n" + "\n".join(tail)
        )


def _cause_of_death(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    if name == "SIGKILL":
        return "SIGKILL: killed by hand or by the kernel for want of memory"
    return name


def _rebuild_error(stage: str, event: dict[str, Any]) -> Exception:
    kind = getattr(errors, event["type"], None)
    if isinstance(kind, type) and issubclass(kind, RetuneError):
        error: RetuneError = kind(event["message"])
    else:
        error = StageError(f"{stage}: {event['type']}: {event['message']}")
    error.add_note(event["traceback"])
    return error


class _EventReporter:
    """The child's reporter: writes events to the parent."""

    def __init__(self, events: IO[str]) -> None:
        self._events = events

    def send(self, event: str, **fields: Any) -> None:
        self._events.write(json.dumps({"event": event, **fields}) + "\n")
        self._events.flush()

    def started(self) -> None:
        self.send("started")

    def progress(self, what: str, done: int, total: int) -> None:
        self.send("progress", what=what, done=done, total=total)

    def metric(self, name: str, value: float, step: int) -> None:
        self.send("metric", name=name, value=value, step=step)

    def log(self, message: str) -> None:
        self.send("log", message=message)


def _read_requests(requests: queue.SimpleQueue[str]) -> None:
    # Its own reading, not `sys.stdin`, whose encoding is that of the user's locale.
    with open(0, encoding="utf-8", closefd=False) as lines:
        for line in lines:
            requests.put(line)
    # The parent is gone or done with us. Nothing may outlive it, a running stage included:
    # its checkpoints are sealed as they are written.
    os._exit(0)


def _serve_one(line: str, table: str, reporter: _EventReporter) -> None:
    request = StageRequest.model_validate_json(line)
    try:
        record = run_stage(load_table(table)[request.stage], request, reporter)
    except Exception as error:  # noqa: BLE001 - the parent raises it
        reporter.send(
            "failed",
            type=type(error).__name__,
            message=str(error),
            traceback=traceback.format_exc(),
        )
    else:
        reporter.send("done", record=record.model_dump(mode="json"))


def serve(events_handle: int, table: str, import_ahead: str) -> None:
    """Run requests until the parent closes standard input.

    Args:
        events_handle: File descriptor that events are written to.
        table: ``module:name`` of the stages.
        import_ahead: Module to import before the first request.
    """
    STOP.install()
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    with os.fdopen(events_handle, "w", encoding="utf-8") as events:
        reporter = _EventReporter(events)
        # Imports dominate the start (torch, transformers, trl: 8 s): done while the parent works.
        import_at_once(import_ahead)
        while not STOP.requested:
            _serve_one(requests.get(), table, reporter)


if __name__ == "__main__":
    try:
        serve(int(sys.argv[1]), *sys.argv[2:])
    except errors.Interrupted:
        sys.exit(errors.Interrupted.exit_code)
