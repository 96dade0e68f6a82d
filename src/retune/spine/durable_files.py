"""Files that are on the disk when they are said to be, and what an error of the disk is told as."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retune.digests import list_files
from retune.errors import ArtifactError

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
"""Numbers of errors that say that a disk does not take what is written."""


@contextmanager
def explaining_disk(folder: Path) -> Iterator[None]:
    """Turn errors of writing below a folder, in the block, into advice about its disk.

    Args:
        folder: The store. An error that names no file, as of a write to an open one, is taken to be
            of a file there; one that names a file elsewhere is left as it is.

    Raises:
        ArtifactError: In place of such an `OSError`.
    """
    try:
        yield
    except OSError as error:
        named = isinstance(error.filename, str | bytes)
        path = Path(os.fsdecode(error.filename)) if named else folder
        if error.errno not in DISK_ERRORS or not path.is_relative_to(folder):
            raise
        raise disk_error(path, error) from error


def disk_error(path: Path, error: OSError) -> ArtifactError:
    """Turn an error of writing to the store into advice about its disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ArtifactError(
            f"{path}: no disk space left. Free some, or set store.folder to another disk, and run "
            "again: finished stages and checkpoints are kept."
        )
    return ArtifactError(f"{path}: cannot be written ({error.strerror or error}).")


def sync_tree(folder: Path) -> None:
    """Have a folder's files, and the folders themselves, on the disk."""
    sync_files(folder)
    sync_folders(folder)


def replace_folder(source: Path, target: Path) -> None:
    """Put a folder in another's place."""
    # A damaged artifact may still stand at the target; a folder cannot be renamed over it.
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    os.replace(source, target)
    sync(target.parent)


def sync_files(folder: Path) -> None:
    """Have a folder's files on the disk."""
    for path in list_files(folder):
        sync(folder / path)


def sync_folders(folder: Path) -> None:
    """Have a folder and those in it on the disk."""
    for each in (*(path for path in folder.rglob("*") if path.is_dir()), folder):
        sync(each)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it."""
    folder.mkdir(parents=True, exist_ok=True)


def write_synced(path: Path, text: str) -> None:
    """Write a text file that is on the disk afterwards."""
    path.write_text(text, encoding="utf-8")
    sync(path)


def sync(path: Path) -> None:
    """Have a file or folder on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
