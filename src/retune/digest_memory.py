"""Digests of large files that have not changed, remembered across processes.

A database of the user (``retune/digests.sqlite`` in the user's cache folder) holds the sha256 of a
file by its identity: device, inode, size, modification and change time. No program can set a change
time, so a file that was written to has another identity. The path is no part of it: an artifact
that is renamed into its place, and a second hard link to it, are the same file.

Only file systems that this machine keeps itself are taken at their word: over a network the times
may be those of another machine, or minutes old. What the database says is never more than a saving
of time: without it, or where it is damaged, files are read.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

LARGE_BYTES = 256 * 1024
"""From this size on reading a file through takes longer than asking the database."""

_MOST_ROWS = 100_000
_WAIT_SECONDS = 2.0
_OWN_FILE_SYSTEMS = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "overlay", "apfs")
)
"""File systems whose change times the kernel of this machine sets, at every write.

Not tmpfs: what is written to a mapped file there changes no time."""

_TABLE = """CREATE TABLE IF NOT EXISTS digests (
    stamp TEXT PRIMARY KEY, digest TEXT NOT NULL, checksum TEXT NOT NULL)"""
_LEAVE_LATEST = "DELETE FROM digests WHERE rowid <= (SELECT max(rowid) FROM digests) - ?"

Answer = TypeVar("Answer")


class Stamp(NamedTuple):
    """What changes whenever a file's bytes are written to, as far as its file system tells.

    Attributes:
        device: Number of the file system.
        inode: Number of the file on it.
        size: Bytes.
        modified_ns: Modification time; nanoseconds since 1970.
        changed_ns: Change time of bytes, links or rights; nanoseconds since 1970.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @property
    def is_large(self) -> bool:
        """Whether reading the file takes longer than asking the database."""
        return self.size >= LARGE_BYTES

    @classmethod
    def of(cls, stat: os.stat_result) -> Self:
        """Take it out of what the system says of a file."""
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


class DigestDatabase:
    """The digests in one SQLite file, shared by all processes of a user.

    It is opened for each question and never raises: a file that is no database, or a damaged one,
    is removed, and one that cannot be written is done without.

    Args:
        path: The file; made with its folder when the first digest is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, stamp: Stamp) -> str | None:
        """Return the digest of a file, None where it is not known."""
        if not self.path.is_file():
            return None
        question = "SELECT digest, checksum FROM digests WHERE stamp = ?"
        found = self._ask(lambda db: db.execute(question, (_as_text(stamp),)).fetchone())
        # A row of which the disk lost a bit would have a stage computed anew for nothing.
        return found[0] if found and found[1] == _checksum(stamp, found[0]) else None

    def keep(self, stamp: Stamp, digest: str) -> None:
        """Remember the digest of a file."""
        row = (_as_text(stamp), digest, _checksum(stamp, digest))

        def insert(database: sqlite3.Connection) -> None:
            with database:
                database.execute(_TABLE)
                database.execute("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", row)
                database.execute(_LEAVE_LATEST, (_MOST_ROWS,))

        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._ask(insert)

    def _ask(self, question: Callable[[sqlite3.Connection], Answer]) -> Answer | None:
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS)) as database:
                # A digest that a power cut takes along is had again by reading the file.
                database.execute("PRAGMA synchronous = OFF")
                return question(database)
        except sqlite3.OperationalError:
            return None  # Busy, full, not writable, or without its table: files are read.
        except sqlite3.DatabaseError:
            self._throw_away()
            return None

    def _throw_away(self) -> None:
        with suppress(OSError):
            self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)


def user_database() -> DigestDatabase:
    """Return the database of whoever runs this process."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return DigestDatabase(Path(root) / "retune" / "digests.sqlite")


def tells_changes(path: Path, device: int) -> bool:
    """Say whether the change times of a file are those of this machine's own kernel.

    Args:
        path: The file.
        device: Number of its file system.
    """
    return _file_system(device, str(path.resolve().parent)) in _OWN_FILE_SYSTEMS


@lru_cache(maxsize=1024)
def _file_system(_device: int, folder: str) -> str:
    import psutil

    mounted = [
        (len(each.mountpoint), number, each.fstype.lower())
        for number, each in enumerate(psutil.disk_partitions(all=True))
        if Path(folder).is_relative_to(each.mountpoint)
    ]
    # Of two that are mounted on one folder the later one is seen.
    return max(mounted, default=(0, 0, ""))[2]


def _as_text(stamp: Stamp) -> str:
    return ":".join(str(number) for number in stamp)


def _checksum(stamp: Stamp, digest: str) -> str:
    return hashlib.sha256(f"{_as_text(stamp)} {digest}".encode()).hexdigest()[:16]
