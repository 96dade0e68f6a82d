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
from pathlib import Path
from typing import IO, Any

import retune.errors as errors
from retune.errors import RetuneError, StageDied, StageError
from retune.stage import Reporter, StageRequest, run_stage
from retune.stopping import STOP

STOP_GRACE_SECONDS = 30.0
"""How long a training may take to seal its last checkpoint before it is killed."""
_LOG_LINES_SHOWN = 8


class StageProcess:
    """The parent's side: starts the process, sends requests, passes events on.

    Args:
        log: File for what the process prints.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process: subprocess.Popen[str] | None = None
        self._events: IO[str] | None = None

    def start(self) -> None:
        """Start the process unless it runs; its imports go on while other work is done."""
        if self._process is not None and self._process.poll() is None:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        read_end, write_end = os.pipe()
        with open(self.log, "a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "retune.stage_process", str(write_end)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(write_end,),
                text=True,
            )
        os.close(write_end)
        self._events = os.fdopen(read_end, encoding="utf-8")

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
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(request.model_dump_json() + "\n")
            self._process.stdin.flush()
            return self._follow(request.stage, reporter)
        except BrokenPipeError:
            raise self._died(request.stage) from None
        except (KeyboardInterrupt, SystemExit):
            self.stop()
            raise
        except BaseException as error:
            # Prefect's cancellation is a BaseException of its own, which must stop the child too.
            if not isinstance(error, Exception):
                self.stop()
            raise

    def _follow(self, stage: str, reporter: Reporter) -> dict[str, Any]:
        assert self._events is not None
        for line in self._events:
            event = json.loads(line)
            match event.pop("event"):
                case "progress":
                    reporter.progress(**event)
                case "metric":
                    reporter.metric(**event)
                case "log":
                    reporter.log(**event)
                case "done":
                    return dict(event["record"])
                case "failed":
                    raise _rebuild_error(stage, event)
        raise self._died(stage)

    def stop(self) -> None:
        """End the process: asked first, killed after a grace period."""
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
        code = self._process.wait()
        self.stop()
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

    def progress(self, what: str, done: int, total: int) -> None:
        self.send("progress", what=what, done=done, total=total)

    def metric(self, name: str, value: float, step: int) -> None:
        self.send("metric", name=name, value=value, step=step)

    def log(self, message: str) -> None:
        self.send("log", message=message)


def _read_requests(requests: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    # The parent is gone or done with us. Nothing may outlive it, a running stage included:
    # its checkpoints are sealed as they are written.
    os._exit(0)


def _import_ahead() -> None:
    # Imports dominate the start (torch, transformers, trl: 8 s); do them while the parent works.
    import retune.training.supervised  # noqa: F401


def _serve_one(line: str, reporter: _EventReporter) -> None:
    from retune.stages import STAGES

    request = StageRequest.model_validate_json(line)
    try:
        record = run_stage(STAGES[request.stage], request, reporter)
    except Exception as error:  # noqa: BLE001 - the parent raises it
        reporter.send(
            "failed",
            type=type(error).__name__,
            message=str(error),
            traceback=traceback.format_exc(),
        )
    else:
        reporter.send("done", record=record.model_dump(mode="json"))


def serve(events_handle: int) -> None:
    """Run requests until the parent closes standard input.

    Args:
        events_handle: File descriptor that events are written to.
    """
    STOP.install()
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    with os.fdopen(events_handle, "w", encoding="utf-8") as events:
        reporter = _EventReporter(events)
        _import_ahead()
        while not STOP.requested:
            _serve_one(requests.get(), reporter)


if __name__ == "__main__":
    try:
        serve(int(sys.argv[1]))
    except errors.Interrupted:
        sys.exit(errors.Interrupted.exit_code)
