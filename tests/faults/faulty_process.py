"""A command or a stage process in which one thing goes wrong, at a moment that data names.

Run as ``python -m tests.faults.faulty_process PROGRAM ARGUMENTS``: `PROGRAM` is run as by
``python -m``, and what ``RETUNE_FAULT`` says happens in it or in the stage process that it starts.
Nothing of the product is changed for that: moments are what Python tells audit hooks of files and
folders, or calls of a function.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import io
import json
import os
import re
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.forking import ADDRESS, Forked

PLAN, GROUP = "RETUNE_FAULT", "RETUNE_FAULT_GROUP"
STAGE_PROCESS = "retune.spine.process"
_OWN_USERS, _OWN_MOUNTS = 0x10000000, 0x00020000  # CLONE_NEWUSER, CLONE_NEWNS of unshare(2)
_WRITES = os.O_WRONLY | os.O_RDWR
_EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "shutil.rmtree")


def _main() -> None:
    program, *arguments = sys.argv[1:]
    plan: dict[str, Any] = json.loads(os.environ[PLAN])
    # A group of its own, in which a stage process joins it: a kill reaches both at once.
    with contextlib.suppress(OSError):
        os.setpgid(0, int(os.environ.get(GROUP, "0")))
    os.environ.setdefault(GROUP, str(os.getpgrp()))
    _Injected(plan, "stage process" if program == STAGE_PROCESS else "run").install()
    if program == STAGE_PROCESS:
        for stream in (sys.stdout, sys.stderr):
            assert isinstance(stream, io.TextIOWrapper)
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    else:
        import retune.spine.process

        retune.spine.process.start_process = start_stage_process  # type: ignore[assignment]
    sys.argv = [program, *arguments]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


def start_stage_process(
    arguments: Sequence[str], log: IO[str], handles: Sequence[int], environment: Mapping[str, str]
) -> Any:
    """Start a stage process through this module, as `retune.spine.process.start_process` would."""
    if ADDRESS not in os.environ:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", __spec__.name, STAGE_PROCESS, *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=handles,
            env=dict(environment),
            encoding="utf-8",
        )
    read_end, write_end = os.pipe()
    process = Forked(
        "tests.faults.faulty_process",
        [STAGE_PROCESS, *arguments],
        folder=None,
        environment=environment,
        handles={0: read_end, 1: log.fileno(), 2: log.fileno(), **{each: each for each in handles}},
        stdin=os.fdopen(write_end, "w", encoding="utf-8"),
    )
    os.close(read_end)
    return process


class _Injected:
    """What goes wrong in this process.

    Args:
        plan: `event` and `path`, an audit event and a pattern of its path, or `call`,
            ``module:function``; `nth`, which of them, from 0 on; `where`, the process that it is
            for, None for either; `times`, how often at most over all processes, as counted in the
            file `spent`; `does`, what then happens, a name of `_DEEDS`; `given`, what that needs.
            `from_start` stands in place of a moment, and so do `count`, a file that counts changes
            of files `below` a folder over all processes, `at`, how many there are before, and
            `last`, a file that is told which one it was.
        here: Which process this is.
    """

    def __init__(self, plan: dict[str, Any], here: str) -> None:
        self._plan, self._seen = plan, 0
        self._concerns = plan.get("where") in (None, here)
        self._lock = threading.Lock()
        self._busy = False

    def install(self) -> None:
        """Lie in wait."""
        if not self._concerns:
            return
        if self._plan.get("from_start"):
            self._happen()
        elif "call" in self._plan:
            self._wrap(*self._plan["call"].split(":"))
        elif "count" in self._plan:
            sys.addaudithook(self._count)
        elif "event" in self._plan:
            self._pattern = re.compile(self._plan["path"])
            sys.addaudithook(self._hear)

    def _hear(self, event: str, given: tuple[Any, ...]) -> None:
        if event != self._plan["event"] or self._busy:
            return
        if event == "open" and not (isinstance(given[2], int) and given[2] & _WRITES):
            return
        if isinstance(given[0], int) or self._pattern.search(os.fsdecode(given[0])) is None:
            return
        self._come_to_it()

    def _count(self, event: str, given: tuple[Any, ...]) -> None:
        """Count changes of files over all processes of the run, by the bytes of a file."""
        if event not in _EVENTS or self._busy or isinstance(given[0], int):
            return
        if self._plan["below"] not in os.fsdecode(given[0]):
            return
        if event == "open" and not (isinstance(given[2], int) and given[2] & _WRITES):
            return
        self._busy = True
        try:
            with open(self._plan["count"], "ab") as file:
                file.write(b".")
                counted = file.tell()
            if counted >= self._plan["at"]:
                Path(self._plan["last"]).write_text(os.fsdecode(given[0]), "utf-8")
                self._happen()
        finally:
            self._busy = False

    def _wrap(self, module: str, name: str) -> None:
        """Have a function do something first, once its module is imported."""

        def wrap() -> None:
            loaded = importlib.import_module(module)
            *classes, last = name.split(".")
            holder: Any = loaded
            for each in classes:
                holder = getattr(holder, each)
            function = getattr(holder, last)

            def broken(*args: Any, **named: Any) -> Any:
                changed = self._come_to_it()
                done = function(*args, **named)
                return changed(done) if callable(changed) else done

            setattr(holder, last, broken)

        wrap()

    def _come_to_it(self) -> Any:
        with self._lock:
            number, self._seen = self._seen, self._seen + 1
            if number < self._plan.get("nth", 0) or self._busy:
                return None
            self._busy = True
        try:
            return self._happen()
        finally:
            self._busy = False

    def _happen(self) -> Any:
        times, spent = self._plan.get("times"), Path(self._plan["spent"])
        with open(spent, "ab") as file:
            if times is not None and file.tell() >= times:
                return None
            file.write(b".")
        return _DEEDS[self._plan["does"]](self._plan.get("given"))


def _signal_group(number: int) -> None:
    os.killpg(int(os.environ[GROUP]), number)
    time.sleep(60)


def _signal_self(number: int) -> None:
    os.kill(os.getpid(), number)
    # Python handles a signal between two of its own instructions.
    time.sleep(0.01)


def _raise_os_error(name: str) -> None:
    number = getattr(errno, name)
    raise OSError(number, os.strerror(number))


def _raise_error(place: str) -> None:
    module, _, name = place.partition(":")
    raise getattr(importlib.import_module(module), name)("injected")


def _limit_files(most_bytes: int) -> None:
    # Python ignores the signal that comes with it: a write fails then, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))


def _mount_small_disk(given: Mapping[str, Any]) -> None:
    """Give this process alone a disk of so many bytes, in memory, in place of a folder.

    Where `left` is given, another file takes all but so many bytes as the first one is written.
    """
    Path(given["folder"]).mkdir(exist_ok=True)
    user, group = os.getuid(), os.getgid()
    library = ctypes.CDLL(None, use_errno=True)
    _refuse_failure(library.unshare(_OWN_USERS | _OWN_MOUNTS))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    place, size = given["folder"].encode(), f"size={given['bytes']}".encode()
    _refuse_failure(library.mount(b"tmpfs", place, b"tmpfs", 0, size))
    if "left" in given:
        _fill_at_first_write(Path(given["folder"]), given["left"])


def _fill_at_first_write(folder: Path, left_bytes: int) -> None:
    filled = False

    def hear(event: str, args: tuple[Any, ...]) -> None:
        nonlocal filled
        if filled or event != "open" or not (isinstance(args[2], int) and args[2] & _WRITES):
            return
        if isinstance(args[0], int) or not Path(os.fsdecode(args[0])).is_relative_to(folder):
            return
        filled = True
        with open(folder / "filler", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(folder).free - left_bytes)

    sys.addaudithook(hear)


def _refuse_failure(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _move_clock(seconds: float) -> None:
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)


def _append(given: Mapping[str, str]) -> None:
    with open(given["path"], "a", encoding="utf-8") as file:
        file.write(given["text"])


def _write(given: Mapping[str, str]) -> None:
    Path(given["path"]).write_text(given["text"], "utf-8")


def _call_command(given: Sequence[str]) -> None:
    subprocess.run([sys.executable, "-m", *given], check=True, capture_output=True)


def _stop_for(seconds: float) -> None:
    """Have this process stopped, as by Ctrl-Z, and go on after a while."""
    waker = (
        f"import os, signal, time; time.sleep({seconds}); os.kill({os.getpid()}, signal.SIGCONT)"
    )
    subprocess.Popen([sys.executable, "-S", "-c", waker])
    os.kill(os.getpid(), signal.SIGSTOP)


def _not_a_number(_: Any) -> Callable[[Any], Any]:
    return lambda found: found * float("nan")


_DEEDS: dict[str, Callable[[Any], Any]] = {
    "kill all": lambda _: _signal_group(signal.SIGKILL),
    "kill it": lambda _: _signal_self(signal.SIGKILL),
    "segfault": lambda _: _signal_self(signal.SIGSEGV),
    "ask it to stop": lambda _: _signal_self(signal.SIGTERM),
    "interrupt all": lambda _: os.killpg(int(os.environ[GROUP]), signal.SIGINT),
    "stop it for": _stop_for,
    "disk": _raise_os_error,
    "raise": _raise_error,
    "limit files": _limit_files,
    "small disk": _mount_small_disk,
    "move the clock": _move_clock,
    "append": _append,
    "write": _write,
    "command": _call_command,
    "not a number": _not_a_number,
}


if __name__ == "__main__":
    _main()
