"""One run on a device of this machine at a time, by a lock that dies with those who hold it.

A run keeps its model loaded between stages, so the lock is held as long as its stage process lives.
The process inherits the lock's handle: a flow that is killed frees the device when its stage
process has ended too, and not a moment before.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

FOLDER_VARIABLE = "RETUNE_DEVICE_LOCKS"
"""Names the folder of the locks. Unset: runs share a device, as those of a terminal do."""
_EVERY_SECONDS = 0.5


class DeviceLock:
    """The devices that this process may see: each is held, or none is.

    Args:
        paths: A file per device; none where devices are shared.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._paths = paths
        self._handles: list[int] = []
        self._taken = 0

    def open(self) -> tuple[int, ...]:
        """Open the files of the locks, without waiting for anybody.

        Returns:
            Their descriptors: a process that inherits them keeps what is taken from then on.
        """
        for path in self._paths[len(self._handles) :]:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handles.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
        return tuple(self._handles)

    def take(self, tell: Callable[[str], object]) -> None:
        """Wait until this run alone has the devices.

        Args:
            tell: Is told once who has one that is waited for.
        """
        self.open()
        # Always in the same order: two runs that share two devices never wait for each other.
        for handle, path in list(zip(self._handles, self._paths, strict=True))[self._taken :]:
            _wait(handle, path, tell)
            self._taken += 1
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let the devices go; a stage process that still lives keeps them."""
        self._taken = 0
        while self._handles:
            os.close(self._handles.pop())


def find_device_lock() -> DeviceLock:
    """Return the lock of the devices that this process may see.

    Returns:
        One that holds nothing unless `RETUNE_DEVICE_LOCKS` names a folder.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return DeviceLock(())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").replace("/", "_").split(",")
    names = sorted({name.strip() for name in visible if name.strip()}) or ["all"]
    return DeviceLock(tuple(Path(folder) / f"device-{name}.lock" for name in names))


def _wait(handle: int, path: Path, tell: Callable[[str], object]) -> None:
    told = False
    while True:
        # Asked again and again, since a wait in the kernel does not end when a run is cancelled
        # outside the main thread.
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if not told:
            holder = os.pread(handle, 20, 0).decode() or "?"
            tell(f"waiting for {path.stem}: the run of process {holder} has it ({path})")
            told = True
        time.sleep(_EVERY_SECONDS)
