"""Putting large files into a second folder without their bytes lying there twice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from retune.digests import list_files, only_links_change

_LARGE = (".safetensors", ".bin", ".gguf")
"""Files of weights: nothing of ours or of others writes into one that is there."""


def is_weights(path: Path) -> bool:
    """Tell whether a file holds weights, by its name."""
    return path.suffix in _LARGE


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
        with only_links_change([Path(whole)]):
            os.link(whole, target)
    except OSError:
        shutil.copyfile(whole, target)


def link_tree(source: Path, target: Path, *, without: Iterable[str] = ()) -> None:
    """Put a folder's files into a second one: weights are linked, and what is small is copied.

    A text may be changed by hand in one place, and that must not change the other.

    Args:
        source: The folder.
        target: The second one; may be there, and none of the files yet.
        without: Names of direct children that are left out.

    Raises:
        OSError: A file cannot be read, or the place not be written.
    """
    for relative in list_files(source, without=without):
        path = target / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_weights(relative):
            link_or_copy(source / relative, path)
        else:
            shutil.copyfile(source / relative, path)
