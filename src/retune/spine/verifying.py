"""Reading a store through: every byte of every artifact against its manifest.

A run takes a large file that no program has written to at its word (`retune.digest_memory`). What a
disk loses by itself changes no time and shows only here; once found, it is remembered as it is now,
so that the next run that needs the artifact computes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from retune.digests import list_files
from retune.spine.store import Store


@dataclass(frozen=True)
class ReadArtifact:
    """An artifact that was read through.

    Attributes:
        stage: Its stage.
        key: Its stage key.
        bytes: Size of all its files.
        damage: What is wrong with it, such as ``artifact damaged: rows.parquet changed``; None
            where it is whole.
        request: What the stage was asked, to compute it by hand; None where that is gone.
        linked: Other files below the store that are hard links to a damaged one: registered
            versions, say, which computing the artifact anew leaves as they are.
    """

    stage: str
    key: str
    bytes: int
    damage: str | None
    request: Path | None = None
    linked: tuple[Path, ...] = ()


def read_through(store: Store, stage: str, key: str) -> ReadArtifact:
    """Read an artifact's files, whatever is remembered of them.

    Args:
        store: The store.
        stage: Its stage.
        key: Its stage key.

    Returns:
        What was found.

    Raises:
        DataError: A file cannot be read.
    """
    folder = store.folder(stage, key)
    # What shared storage has and this machine had not is here afterwards.
    damage = store.damage(stage, key, afresh=True)
    size = sum((folder / path).stat().st_size for path in list_files(folder))
    if damage is None:
        return ReadArtifact(stage, key, size, None)
    request = store.root / "requests" / stage / f"{key}.json"
    kept = request if request.is_file() else None
    return ReadArtifact(stage, key, size, damage, kept, tuple(_other_links(store, folder)))


def _other_links(store: Store, folder: Path) -> Iterator[Path]:
    stats = ((folder / path).stat() for path in list_files(folder))
    shared = {(stat.st_dev, stat.st_ino) for stat in stats if stat.st_nlink > 1}
    for path in list_files(store.root) if shared else ():
        found = store.root / path
        # A run beside this one may take a file away.
        with suppress(FileNotFoundError):
            stat = found.stat()
            if (stat.st_dev, stat.st_ino) in shared and not found.is_relative_to(folder):
                yield found
