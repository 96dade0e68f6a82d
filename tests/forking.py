"""Two processes that have imported the large libraries and fork, and the processes that they fork.

Run as a script with two listening sockets: each connection asks for one process, is told its
number, and its exit code when it has ended. Forks of the second socket have imported Prefect too.
`tests.preloading` starts it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import importlib
import importlib.abc
import importlib.machinery
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
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ADDRESS = "RETUNE_TESTS_PRELOADED"
"""Variable with the path of the first socket; forked runs pass it on for their stage processes."""
WITH_PREFECT = "-prefect"
"""What the path of the second socket ends in."""
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
    *("pydantic_settings", "datasketch", "py3langid", "tabulate", "mlflow.pyfunc"),
    *("sqlalchemy.dialects.sqlite", "anyio._backends._asyncio", "retune.registry.registering"),
)
"""What the stage processes and the commands of a run would import."""
_PAGES = (
    *("retune.release.report:templates", "retune.release.overview:_templates"),
    *("retune.data.reporting.pages:templates", "retune.trials.page:_templates"),
)
"""What makes the templates of the pages that runs write, which are compiled as they are read."""
_FLOWS = (
    *("flows.finetune", "flows.retrain", "flows.compare", "flows.evaluating"),
    *("retune.cli.runs.running", "prefect.artifacts", "prefect.concurrency.asyncio"),
)
"""What a command with a flow would import beside."""


class Forked:
    """A forked process, as `subprocess.Popen` shows one.

    Args:
        program: Module that it runs, as ``python -m`` does.
        arguments: Of the module.
        folder: Where it runs; None for the one of this process, which is then not searched for
            modules, as with ``python -P``.
        environment: All of its variables.
        handles: Of this process, by the number that each has there.
        stdin: What it reads, for whoever writes it here.
        with_prefect: Let it have Prefect, which it sees as it imports it.
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
        with_prefect: bool = False,
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
        self._line.connect(os.environ[ADDRESS] + (WITH_PREFECT if with_prefect else ""))
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


class _PrefectAtHand(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a fork Prefect's modules as it first asks for one, with the settings of that moment.

    Prefect reads environment, files and profile while it is imported, and a command prepares the
    environment before.

    Args:
        modules: Prefect's, by name.
    """

    def __init__(self, modules: dict[str, types.ModuleType]) -> None:
        self._modules = modules
        self._spec = modules["prefect"].__spec__

    def find_spec(self, fullname: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        """Take part in the import of the package alone, which comes before all others of it."""
        if fullname != "prefect":
            return None
        sys.meta_path.remove(self)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Return the package as it is."""
        return self._modules[spec.name]

    def exec_module(self, module: types.ModuleType) -> None:
        """Do what depends on settings and is done by the import of Prefect."""
        module.__spec__ = self._spec
        sys.modules.update(self._modules)
        context = self._modules["prefect.context"]
        context.GLOBAL_SETTINGS_CONTEXT = context.root_settings_context()
        self._modules["prefect.logging.configuration"].setup_logging()


def _import_prefect(home: str) -> _PrefectAtHand:
    """Import Prefect, and what runs import with it; then hide it."""
    os.environ["PREFECT_HOME"] = home
    from prefect.logging import configuration

    set_up = configuration.setup_logging
    configuration.setup_logging = lambda incremental=None: {}
    for name in _FLOWS:
        importlib.import_module(name)
    configuration.setup_logging = set_up
    del os.environ["PREFECT_HOME"]
    rooms = {name: name.partition(".")[0] for name in sys.modules}
    # Flows and tasks read Prefect's settings as they are declared: each fork declares its own.
    for name in [name for name, room in rooms.items() if room in ("flows", "tasks")]:
        del sys.modules[name]
    held = [name for name, room in rooms.items() if room == "prefect"]
    return _PrefectAtHand({name: sys.modules.pop(name) for name in held})


def _compute_ahead() -> None:
    """Do what is done once in a process, and comes out the same in each."""
    from mlflow.utils import requirements_utils

    from retune.recipe.recipe import Recipe

    for place in _PAGES:
        module, _, name = place.partition(":")
        templates = getattr(importlib.import_module(module), name)()
        # Of a package's folder, which holds its bytecode too.
        for page in templates.list_templates(extensions=["j2"]):
            templates.get_template(page)
    Recipe.model_rebuild()
    _draw_ahead()
    # Which packages hold which modules, from the lists of all their files.
    requirements_utils._init_packages_to_modules_map()


def _draw_ahead() -> None:
    # Fonts are looked up and measured once in a process.
    from matplotlib.figure import Figure

    from retune.pages.pictures import render_png, render_svg_file

    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [1, 2], label="0123456789.,+-% steps")
    axes.set(xlabel="x", ylabel="y", title="title")
    axes.legend()
    render_svg_file(figure)
    render_png(figure)


def _refuse_threads() -> None:
    # A fork has no thread but the one that forked. That of Arrow's allocator can be forked from.
    names = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    assert names <= {"python", "jemalloc_bg_thd"} and threading.active_count() == 1, names


def _main() -> None:
    _die_with_parent(signal.SIGTERM)
    gc.disable()
    from retune.tracking import connecting

    os.environ |= connecting._ENVIRONMENT
    for name in _AHEAD:
        importlib.import_module(name)
    for name in connecting._ENVIRONMENT:
        del os.environ[name]
    _compute_ahead()
    assert "prefect" not in sys.modules
    _refuse_threads()
    plain, with_prefect = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    parent = os.getpid()
    found: list[_PrefectAtHand] = []
    if os.fork():
        with_prefect.close()
        listening = plain
    else:
        _die_with_parent(signal.SIGTERM)
        assert os.getppid() == parent
        plain.close()
        listening = with_prefect
        found.append(_import_prefect(sys.argv[3]))
        _refuse_threads()
    gc.freeze()
    asked = _serve(listening)
    _take_place(asked)
    gc.enable()
    # As in the process of the tests.
    gc.set_threshold(10_000, 20, 50)
    sys.meta_path[:0] = found
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
