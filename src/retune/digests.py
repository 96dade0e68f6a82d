"""Content digests: sha256 of canonical JSON, of files and of folders."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from retune.errors import DataError

_CHUNK_BYTES = 4 * 1024 * 1024
_CLOCK_TICK_NS = 100_000_000


def canonical_json(value: Any) -> str:
    """Render a JSON value so that equal values give equal text.

    Args:
        value: Anything that `json` writes; keys are sorted, no white space, UTF-8 kept.

    Returns:
        The text whose sha256 is the value's digest.

    Raises:
        ValueError: A float is NaN or infinite, which JSON does not have.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest_json(value: Any) -> str:
    """Return the sha256 (hex) of a JSON value's canonical text."""
    return hashlib.sha256(canonical_json(value).encode("utf-8")).hexdigest()


def digest_file(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes.

    A file that has not been touched is read once per process: the memory is keyed by size,
    modification and change time and inode, and the change time cannot be set by a program, so a
    file rewritten in place is read again. A file changed just now is not remembered: change times
    advance in ticks of some milliseconds, and a second change within one would not show.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.

    Raises:
        DataError: The file does not exist or cannot be read.
    """
    try:
        stat = path.stat()
        if time.time_ns() - stat.st_ctime_ns < _CLOCK_TICK_NS:
            return _read_digest(str(path))
        return _digest_unchanged(
            str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
        )
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


@lru_cache(maxsize=4096)
def _digest_unchanged(path: str, *_stat: int) -> str:
    return _read_digest(path)


def _read_digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def list_files(folder: Path, *, without: Iterable[str] = ()) -> list[Path]:
    """List the files below a folder in a stable order.

    Args:
        folder: The folder to walk.
        without: Names of direct sub-folders or files that are left out.

    Returns:
        Paths relative to `folder`, sorted as POSIX text.
    """
    left_out = set(without)
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = (path for path in found if path.parts[0] not in left_out)
    return sorted(kept, key=lambda path: path.as_posix())


def digest_files(folder: Path) -> dict[str, str]:
    """Map each file below a folder (POSIX relative path) to its sha256."""
    return {path.as_posix(): digest_file(folder / path) for path in list_files(folder)}


def digest_tree(files: Mapping[str, str]) -> str:
    """Return one digest for a folder from its files' digests (names count, times do not)."""
    return digest_json(dict(files))


def digest_folder(folder: Path, *, without: Iterable[str] = ()) -> str:
    """Return the digest of a folder's content.

    Args:
        folder: The folder.
        without: Direct children that do not belong to the content (logs, say).

    Returns:
        64 hexadecimal digits; equal for two folders with the same names and bytes.
    """
    kept = list_files(folder, without=without)
    return digest_tree({path.as_posix(): digest_file(folder / path) for path in kept})
