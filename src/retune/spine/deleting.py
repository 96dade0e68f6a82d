"""Deleting from a store what a survey found that nothing refers to.

Folders are renamed into the store's trash before the first of their files goes: a reader, or
whoever comes after a kill, sees an artifact whole or absent. What is at work meanwhile keeps what
it uses: each key is deleted under its lock, and what was used since the survey is left, or put
back.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from retune.digests import list_files, only_links_change
from retune.errors import ArtifactError
from retune.spine.durable_files import disk_error, make_folder, sync
from retune.spine.garbage import TRASH, Item, list_stats
from retune.spine.store import Store


def delete_items(
    store: Store, items: Sequence[Item], tell: Callable[[Item], object]
) -> tuple[list[Item], list[Item]]:
    """Delete what does not stay.

    Args:
        store: The store that was surveyed.
        items: From `survey`.
        tell: Is told of each thing before it goes.

    Returns:
        What went, and what was left because it has been used, or computed anew, since the survey.

    Raises:
        ArtifactError: Something cannot be removed, or another clean-up is at work. What went until
            then is gone, and all else as it was.
    """
    going = [item for item in items if not item.stays]
    gone: list[Item] = []
    left: list[Item] = []
    used: set[str] = set()
    with _alone(store.root), _remembered(store.root, going):
        for item in going:
            tell(item)
            # Its request and lock stay with what was left.
            try:
                went = item.key not in used and _DELETE[item.kind](store, item)
            except OSError as error:
                raise disk_error(item.path, error) from error
            (gone if went else left).append(item)
            if not went and item.key:
                used.add(item.key)
        _empty_trash(store.root)
    return gone, left


def _delete_folder(store: Store, item: Item) -> bool:
    """Rename a folder into the trash, under the lock of its key, and remove it there."""
    lock = store.root / "locks" / f"{item.key}.lock"
    make_folder(lock.parent)
    try:
        with FileLock(lock).acquire(blocking=False):
            if not _is_unused(item, item.path):
                return False
            trashed = store.root / TRASH / f"{item.stage}-{item.path.name}-{uuid.uuid4().hex[:8]}"
            make_folder(trashed.parent)
            item.path.rename(trashed)
            sync(item.path.parent)
            if not _is_unused(item, trashed):
                # A run took it between the look and the rename, and marked it before.
                trashed.rename(item.path)
                return False
            lock.unlink(missing_ok=True)
    except Timeout:
        return False
    shutil.rmtree(trashed)
    return True


def _is_unused(item: Item, folder: Path) -> bool:
    # Of a computation, what lies deeper is written under the lock that is held here.
    try:
        return folder.lstat().st_mtime <= item.used_at
    except FileNotFoundError:
        return False


def _delete_lock(_: Store, item: Item) -> bool:
    # Removed while it is held: who waits for it sees that it is no longer the file of that name.
    try:
        with FileLock(item.path).acquire(blocking=False):
            item.path.unlink(missing_ok=True)
    except Timeout:
        return False
    return True


def _delete_file(_: Store, item: Item) -> bool:
    if not _is_unused(item, item.path):
        return False
    item.path.unlink()
    return True


def _delete_trash(_: Store, item: Item) -> bool:
    shutil.rmtree(item.path)
    return True


_DELETE: dict[str, Callable[[Store, Item], bool]] = {
    "artifact": _delete_folder,
    "work": _delete_folder,
    "request": _delete_file,
    "log": _delete_file,
    "lock": _delete_lock,
    "trash": _delete_trash,
}


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    path = root / "locks" / "gc.lock"
    lock = FileLock(path)
    try:
        make_folder(path.parent)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ArtifactError(
            f"{root}: another retune gc deletes here just now. Wait until it has ended."
        ) from error
    except OSError as error:
        raise disk_error(path, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _remembered(root: Path, going: Sequence[Item]) -> Iterator[None]:
    """Keep what is remembered of files that lose a link: a registered version need not be read."""
    inodes = {
        (stat.st_dev, stat.st_ino)
        for item in going
        for stat in list_stats(item.path)
        if stat.st_nlink > 1
    }
    going_paths = tuple(item.path for item in going)
    staying = []
    for name in list_files(root) if inodes else ():
        with suppress(FileNotFoundError):
            stat = (root / name).stat()
            linked = (stat.st_dev, stat.st_ino) in inodes
            if linked and not any((root / name).is_relative_to(each) for each in going_paths):
                staying.append(root / name)
    with only_links_change(staying):
        yield


def _empty_trash(root: Path) -> None:
    with suppress(OSError):
        (root / TRASH).rmdir()
