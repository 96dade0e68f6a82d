"""Processes that compute for another one of this machine: they end with it, and share its cores."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends, however that ends.

    Args:
        parent: Process that must still be there.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that this one computes for is gone")


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
