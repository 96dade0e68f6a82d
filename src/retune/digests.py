"""Content digests: sha256 of canonical JSON, of files and of folders."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from retune.digest_memory import Stamp, tells_changes, user_database
from retune.errors import DataError

_CLOCK_TICK_NS = 100_000_000
_MOST_REMEMBERED = 65_536
_REMEMBERED: dict[Stamp, str] = {}
"""What this process has read or asked for, small files too."""


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


def digest_file(path: Path, *, afresh: bool = False) -> str:
    """Return the sha256 (hex) of a file's bytes.

    A file that has not been touched is read once per process, and a large one once per machine
    (`retune.digest_memory`): what is remembered is known by inode, size, modification and change
    time, and the change time cannot be set by a program, so a file rewritten in place is read
    again. A file changed just now is not remembered: change times advance in ticks of some
    milliseconds, and a second change within one would not show. For a large one the tick is waited
    for, since reading it again would take longer.

    Args:
        path: The file.
        afresh: Read it whatever is remembered: a bit that the disk lost changes no time.

    Returns:
        64 hexadecimal digits.

    Raises:
        DataError: The file does not exist or cannot be read.
    """
    try:
        known = None if afresh else _recall(path, Stamp.of(path.stat()))
        return known or _read_and_keep(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def _recall(path: Path, stamp: Stamp) -> str | None:
    """Return what is remembered of a file."""
    known = _REMEMBERED.get(stamp)
    if known is None and _is_shared(path, stamp):
        known = user_database().find(stamp)
        if known is not None:
            _REMEMBERED[stamp] = known
    return known


def _read_and_keep(path: Path) -> str:
    with open(path, "rb") as file:
        before = Stamp.of(os.fstat(file.fileno()))
        settled = _wait_for_tick(before)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if settled and Stamp.of(os.fstat(file.fileno())) == before:
            _keep(path, before, digest, file.fileno())
    return digest


def _wait_for_tick(stamp: Stamp) -> bool:
    """Say whether a change from now on shows in a file's times; a large one is waited for."""
    left = stamp.changed_ns + _CLOCK_TICK_NS - time.time_ns()
    # A file from the future, on a clock that was set back, may stay young for hours.
    if 0 < left <= _CLOCK_TICK_NS and stamp.is_large:
        time.sleep(left / 1e9)
        return True
    return left <= 0


def _keep(path: Path, stamp: Stamp, digest: str, handle: int) -> None:
    if len(_REMEMBERED) >= _MOST_REMEMBERED:
        _REMEMBERED.clear()
    _REMEMBERED[stamp] = digest
    if _is_shared(path, stamp):
        with suppress(OSError):
            # Another process may ask after a power cut, which must not have taken bytes along.
            os.fsync(handle)
            user_database().keep(stamp, digest)


def _is_shared(path: Path, stamp: Stamp) -> bool:
    return stamp.is_large and tells_changes(path, stamp.device)


@contextmanager
def only_links_change(paths: Iterable[Path]) -> Iterator[None]:
    """Go on remembering large files, while a block makes or removes further hard links to them.

    That sets their change time and leaves the bytes alone: size and modification time tell whether
    somebody has written meanwhile. Only who writes and sets the time back, within the block, would
    not be seen.

    Args:
        paths: The files; one that is not remembered, or no longer there, stays so.
    """
    before = {path: _stamp_of(path) for path in paths}
    large = {path: stamp for path, stamp in before.items() if stamp and stamp.is_large}
    known = {path: _recall(path, stamp) for path, stamp in large.items()}
    yield
    for path, earlier in large.items():
        digest, stamp = known[path], _stamp_of(path)
        if digest is None or stamp is None or stamp == earlier:
            continue
        if stamp._replace(changed_ns=earlier.changed_ns) == earlier:
            with suppress(OSError), open(path, "rb") as file:
                _keep(path, stamp, digest, file.fileno())


def _stamp_of(path: Path) -> Stamp | None:
    with suppress(OSError):
        return Stamp.of(path.stat())
    return None


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
