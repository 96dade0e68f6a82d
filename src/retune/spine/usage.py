"""When an artifact was last used, and which runs are at work in a store.

A clean-up (`retune.spine.garbage`) takes nothing that a run relies on. A run marks each artifact
that it takes from the store by the modification time of its folder, which nothing else changes once
it is sealed, and holds a file lock of its own, which ends with it, however it ends:

    locks/runs/<id>.lock     made when a run begins; its modification time says when that was
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from retune.spine.durable_files import disk_error, make_folder
from retune.spine.store import Store

_RUNS = Path("locks", "runs")


def mark_used(store: Store, stage: str, key: str) -> None:
    """Write down that an artifact was used just now; one that is not there stays so.

    Args:
        store: The store; one that may only be read keeps no mark.
        stage: Its stage.
        key: Its stage key.
    """
    with suppress(OSError):
        os.utime(store.folder(stage, key))


@contextmanager
def at_work(root: Path) -> Iterator[None]:
    """Say for the length of a block that a run is at work in a store.

    Args:
        root: The store's folder.

    Raises:
        ArtifactError: The disk is full or not writable.
    """
    path = root / _RUNS / f"{uuid.uuid4().hex}.lock"
    lock = FileLock(path)
    try:
        make_folder(path.parent)
        lock.acquire()
    except OSError as error:
        raise disk_error(path, error) from error
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):
            path.unlink()


def list_run_locks(root: Path) -> list[Path]:
    """Return the lock files of runs, those of dead ones among them."""
    return sorted((root / _RUNS).glob("*.lock"))


def find_oldest_run(root: Path) -> float | None:
    """Return when the oldest run that is at work began, as a time of the file system; or None.

    Args:
        root: The store's folder.
    """
    begun = []
    for path in list_run_locks(root):
        with suppress(FileNotFoundError):
            # Looked at before: whether it is held is found out by opening the file.
            started = path.stat().st_mtime
            if is_held(path):
                begun.append(started)
    return min(begun, default=None)


def is_held(path: Path) -> bool:
    """Tell whether a process holds a file lock; a file that is not there is not made.

    Args:
        path: The lock's file.
    """
    if not path.is_file():
        return False
    try:
        with FileLock(path).acquire(blocking=False):
            return False
    except Timeout:
        return True
    except OSError:
        # It belongs to another user, say: who may not look must not take anything away.
        return True
