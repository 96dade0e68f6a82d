"""The folder of an export: whole or absent, and never written over unasked."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from retune.digests import digest_file, list_files
from retune.errors import ArtifactError, ConfigError
from retune.publishing.records import EXPORT_FILE, Export, ExportedFile
from retune.spine.durable_files import disk_error

_SHOWN = 3


def check_target(target: Path, *, force: bool) -> None:
    """Refuse a folder that an export may not take, before anything expensive starts.

    Args:
        target: Where the export is to go.
        force: Whether an earlier export there may be replaced.

    Raises:
        ConfigError: Something stands there that would be lost.
    """
    if not os.path.lexists(target):
        return
    if not target.is_dir() or target.is_symlink():
        raise ConfigError(f"{target}: is no folder. Name a new folder with --to.")
    found = [path.as_posix() for path in list_files(target)]
    if not found and not any(target.iterdir()):
        return
    if not force:
        raise ConfigError(
            f"{target}: is not empty ({_listed(found)}). Name a new folder with --to, or write "
            "--force to replace an earlier export."
        )
    own = _files_of_export(target)
    foreign = [name for name in found if name not in own]
    if foreign:
        raise ConfigError(
            f"{target}: holds files that no export wrote ({_listed(foreign)}), and --force "
            "replaces earlier exports alone. Move them, or name another folder with --to."
        )


@contextmanager
def fresh_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """Write a folder beside its place, and put it there when all of it is written.

    Args:
        target: Where it goes.
        force: As in `check_target`.

    Yields:
        An empty folder on the same disk.

    Raises:
        ConfigError: The place is taken.
        ArtifactError: The disk is full or not writable.
    """
    check_target(target, force=force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    except OSError as error:
        raise disk_error(target, error) from error
    try:
        # What mkdtemp makes is for its owner alone.
        work.chmod(0o755)
        yield work
        # Something may have been written there in the meantime.
        check_target(target, force=force)
        _put(work, target)
    except OSError as error:
        # Libraries raise it for files that they cannot read, too, and then without a number.
        if error.errno is None:
            raise
        raise disk_error(target, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def describe_files(folder: Path) -> dict[str, ExportedFile]:
    """Return size and digest of each file below a folder, but for the export's own record."""
    return {
        path.as_posix(): ExportedFile(
            bytes=(folder / path).stat().st_size, sha256=digest_file(folder / path)
        )
        for path in list_files(folder)
        if path.as_posix() != EXPORT_FILE
    }


def read_export(folder: Path) -> Export:
    """Read what an export says of itself.

    Args:
        folder: Of the export.

    Raises:
        ArtifactError: It is none, or not whole.
    """
    path = folder / EXPORT_FILE
    try:
        return Export.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ArtifactError(
            f"{path}: expected the record of a finished export, but it cannot be read ({error}). "
            "Export again."
        ) from error


def _put(work: Path, target: Path) -> None:
    if target.is_dir():
        # Two renames: at no moment does a half of either stand there.
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
        os.replace(target, old / target.name)
        try:
            os.replace(work, target)
        except OSError:
            os.replace(old / target.name, target)
            raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
        return
    os.replace(work, target)


def _files_of_export(target: Path) -> set[str]:
    try:
        return {*read_export(target).files, EXPORT_FILE}
    except ArtifactError:
        return set()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else "folders"
