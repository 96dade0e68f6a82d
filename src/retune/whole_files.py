"""Files that are there whole or not at all, whoever writes beside, and wherever a run is killed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Let a file be written beside its place, which it takes once the block has ended well.

    Args:
        path: Where it comes to stand; its folder is made when missing.

    Yields:
        Where to write it. The name is this thread's own, since two runs may share a folder, and
        goes with the block where that fails.

    Raises:
        OSError: The disk does not take it; what stood at `path` still does.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        # Renamed before its bytes are on the disk, it could be there and empty after a power cut.
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
