"""Processes that work for another one of this machine: they end with it, and share its cores."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys

_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_STOP_SECONDS = 10.0
_WATCHING: list[subprocess.Popen[bytes]] = []
"""What ends others when this process does; held, since each ends once its input is closed."""


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends, however that ends.

    Args:
        parent: Process that must still be there.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that this one computes for is gone")


def end_with_this_one(process: int) -> None:
    """Have a process end when this one does, however that ends.

    For one that a library starts, and that does not call `die_with`: a process of some megabytes
    waits beside for the end of this one, which the kernel tells it by closing a pipe.

    Args:
        process: Of the same user; asked to end then, and killed when it has not after 10 seconds.
    """
    _WATCHING.append(
        subprocess.Popen(
            # This file alone is needed: as a script, without the packages beside it.
            [sys.executable, "-I", "-S", __file__, str(process)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # What is sent to this one's group, such as Ctrl-C, leaves the watch standing.
            start_new_session=True,
        )
    )


def _watch(process: int) -> None:
    """Wait for the end of standard input, then end a process unless it has ended."""
    # A handle means this process alone, even when its number has been given to another since.
    handle = os.pidfd_open(process) if hasattr(os, "pidfd_open") else None
    sys.stdin.buffer.read()
    with contextlib.suppress(ProcessLookupError):
        for number in (signal.SIGTERM, signal.SIGKILL):
            if handle is None:
                os.kill(process, number)
                return
            signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], _STOP_SECONDS)[0]:
                return


def share_cores(processes: int) -> None:
    """Give each process of this machine its part of the cores, unless the user has given it one.

    Args:
        processes: That compute at the same time.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(count_own_cores(processes)))


def count_own_cores(processes: int) -> int:
    """Return one process's part of the cores: what the user has given it, else an equal one.

    Args:
        processes: That compute at the same time.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal():
        return max(1, int(given))
    return max(1, count_cores() // processes)


def count_cores() -> int:
    """Return how many cores this process may use; where the system does not say, all there are."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if __name__ == "__main__":
    with contextlib.suppress(ProcessLookupError):
        _watch(int(sys.argv[1]))
