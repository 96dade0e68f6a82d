"""Putting large files into a second folder without their bytes lying there twice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Link a file to a second place, or copy it where the disk does not let it.

    Args:
        source: The file; a link is followed, since the hub's cache is made of links.
        target: The second place; nothing stands there yet.

    Raises:
        OSError: The file cannot be read, or the place not be written.
    """
    whole = os.path.realpath(source)
    try:
        os.link(whole, target)
    except OSError:
        shutil.copyfile(whole, target)
