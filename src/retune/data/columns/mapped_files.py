"""Files that are mapped into memory to be written there."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

_ZEROS = bytes(2**20)


def map_zeros(path: Path, size: int) -> mmap.mmap:
    """Make a file of zeros, and map it.

    Args:
        path: The file; what stood there is lost.
        size: Bytes, at least one.

    Raises:
        OSError: The disk has no room for it. It is taken at once: a mapped file that finds the disk
            full later kills the process.
    """
    with open(path, "w+b") as file:
        try:
            _take_room(file.fileno(), size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        return mmap.mmap(file.fileno(), size)


def _take_room(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    # macOS has no such call, and a file that is only made longer there takes no room.
    left = size
    while left:
        left -= os.write(file, _ZEROS[:left])
