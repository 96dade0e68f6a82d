"""A process that has imported the large libraries and forks, and the processes that it forks.

Run as a script with a listening socket: each connection asks for one process, is told its number,
and its exit code when it has ended. `tests.preloading` starts it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ADDRESS = "RETUNE_TESTS_PRELOADED"
"""Variable with the path of the socket; forked runs pass it on for their stage processes."""
_PR_SET_PDEATHSIG = 1
_AHEAD = (
    *("retune.training.supervised", "retune.stages"),
    *("mlflow.transformers", "mlflow.store.db.utils"),
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    *("scipy.stats", "scipy.sparse.linalg", "sklearn.linear_model"),
    "sklearn.feature_extraction.text",
    *("matplotlib.figure", "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg"),
    # What the command line and Prefect are made of.
    *("typer", "rich.live", "rich.traceback", "httpx", "httpcore", "websockets.asyncio.client"),
    *("fastapi", "griffe", "graphviz", "jsonschema", "pendulum", "prometheus_client"),
    *("pydantic_settings", "datasketch", "py3langid"),
)
"""What the stage processes and the commands of a run would import."""


class Forked:
    """A forked process, as `subprocess.Popen` shows one.

    Args:
        program: Module that it runs, as ``python -m`` does.
        arguments: Of the module.
        folder: Where it runs; None for the one of this process, which is then not searched for
            modules, as with ``python -P``.
        environment: All of its variables.
        handles: Of this process, by the number that each has there.
    """

    def __init__(
        self,
        program: str,
        arguments: Sequence[str],
        *,
        folder: Path | None,
        environment: Mapping[str, str],
        handles: Mapping[int, int],
        stdin: IO[str] | None = None,
    ) -> None:
        self.args = [sys.executable, "-m", program, *arguments]
        self.stdin = stdin
        self.returncode: int | None = None
        asked = {
            "program": program,
            "arguments": list(arguments),
            "folder": str(folder or Path.cwd()),
            "searched": folder is not None,
            "environment": dict(environment),
            "numbers": list(handles),
        }
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.connect(os.environ[ADDRESS])
        body = json.dumps(asked).encode()
        with tempfile.TemporaryFile() as file:
            file.write(body)
            file.flush()
            socket.send_fds(self._line, [b"fork"], [file.fileno(), *handles.values()])
        self.pid = int(self._line.recv(64))

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the code is negative where a signal ended it."""
        if self.returncode is None:
            self._line.settimeout(timeout if timeout is None or timeout > 0 else 1.0e-9)
            try:
                self.returncode = int(self._line.recv(64))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
            self._line.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _serve(listening: socket.socket) -> dict[str, Any]:
    """Fork as asked until this process is ended; return what a fork has to run, in the fork."""
    waiting = selectors.DefaultSelector()
    waiting.register(listening, selectors.EVENT_READ)
    lines: dict[int, tuple[int, socket.socket]] = {}
    while True:
        for key, _ in waiting.select():
            if key.fileobj is not listening:
                ended, line = lines.pop(key.data)
                waiting.unregister(ended)
                os.close(ended)
                _tell_end(key.data, line)
                continue
            line, _ = listening.accept()
            _, handles, _, _ = socket.recv_fds(line, 16, 16)
            if not handles:  # Who began to ask has ended.
                line.close()
                continue
            with open(handles.pop(0), encoding="utf-8") as file:
                file.seek(0)
                asked: dict[str, Any] = json.load(file)
            process = os.fork()
            if process == 0:
                waiting.close()
                line.close()
                listening.close()
                for ended, other in lines.values():
                    os.close(ended)
                    other.close()
                return {**asked, "handles": handles}
            for handle in handles:
                os.close(handle)
            lines[process] = (os.pidfd_open(process), line)
            waiting.register(lines[process][0], selectors.EVENT_READ, process)
            with contextlib.suppress(OSError):  # Who asked has ended.
                line.send(str(process).encode())


def _tell_end(process: int, line: socket.socket) -> None:
    _, status = os.waitpid(process, 0)
    with contextlib.suppress(OSError):  # Who asked for it has ended.
        line.send(str(os.waitstatus_to_exitcode(status)).encode())
    line.close()


def _die_with_parent(number: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _take_place(asked: dict[str, Any]) -> None:
    """Give a fork the handles, folder, variables and arguments that it was asked for."""
    _die_with_parent(signal.SIGTERM)
    held = asked["handles"]
    # Above all numbers that are wanted, so that none is written over before it is used.
    above = [_duplicate_above(handle, 200) for handle in held]
    for handle in held:
        os.close(handle)
    for number, handle in zip(asked["numbers"], above, strict=True):
        os.dup2(handle, number, inheritable=True)
        os.close(handle)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = [asked["program"], *asked["arguments"]]
    if asked["searched"]:
        sys.path.insert(0, asked["folder"])


def _duplicate_above(handle: int, least: int) -> int:
    return fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, least)


def fork_stage_process(
    arguments: Sequence[str], log: IO[str], handles: Sequence[int], environment: Mapping[str, str]
) -> Any:
    """Stand in for the start of a stage process in the process of a run."""
    read_end, write_end = os.pipe()
    inherited = {handle: handle for handle in handles}
    process = Forked(
        "retune.spine.process",
        arguments,
        folder=None,
        environment=environment,
        handles={0: read_end, 1: log.fileno(), 2: log.fileno(), **inherited},
        stdin=os.fdopen(write_end, "w", encoding="utf-8"),
    )
    os.close(read_end)
    return process


def _main() -> None:
    _die_with_parent(signal.SIGTERM)
    gc.disable()
    from retune.tracking import connecting

    os.environ |= connecting._ENVIRONMENT
    for name in _AHEAD:
        importlib.import_module(name)
    for name in connecting._ENVIRONMENT:
        del os.environ[name]
    # A fork has no thread but the one that forked. That of Arrow's allocator can be forked from.
    names = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    assert names <= {"python", "jemalloc_bg_thd"} and threading.active_count() == 1, names
    assert "prefect" not in sys.modules
    gc.enable()
    gc.freeze()
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    _take_place(asked)
    if asked["program"] == "retune.spine.process":
        for stream in (sys.stdout, sys.stderr):
            assert isinstance(stream, io.TextIOWrapper)
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    else:
        import retune.spine.process

        retune.spine.process.start_process = fork_stage_process
    runpy.run_module(asked["program"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
