"""Files that a recipe names, with the digest of what they hold."""

from __future__ import annotations

from pathlib import Path

from retune.digests import digest_file
from retune.errors import DataError
from retune.records import Source


def locate_source(path: Path, name: str) -> Source:
    """Return a file and its digest.

    Args:
        path: The file, absolute.
        name: The recipe's key that names it, for the message.

    Returns:
        The source.

    Raises:
        DataError: There is no such file, or it is empty.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(
            f"{name}: {path} {what}. Expected a file; relative paths start at the project root."
        )
    if path.stat().st_size == 0:
        raise DataError(f"{name}: {path} is empty.")
    return Source(digest=digest_file(path), path=path)
