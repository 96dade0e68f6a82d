"""The artifact store: a folder per stage key, complete or absent.

Layout below the store's root::

    <stage>/<key>/manifest.json      written last: record, key parts, provenance, file digests
    <stage>/<key>/...                the artifact's files
    <stage>/<key>.work/              a computation in progress; `scratch/` survives a crash
    known/<stage>/<key>.json         the key's parts, kept when the artifact is deleted
    requests/<stage>/<key>.json      what the stage was asked, to run it again by hand
    locks/<key>.lock                 held while a stage computes; dies with its holder

The manifest is the truth. An artifact without one, or whose files differ from it, does not count.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeVar

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from retune.digests import (
    digest_file,
    digest_files,
    digest_json,
    list_files,
    only_links_change,
)
from retune.errors import ArtifactError, DataError
from retune.records import ArtifactRecord, Record
from retune.spine.durable_files import (
    disk_error,
    make_folder,
    replace_folder,
    sync_files,
    sync_folders,
    write_synced,
)

R = TypeVar("R", bound=Record)

MANIFEST = "manifest.json"
_KEY = re.compile(r"[0-9a-f]{32}")
MIN_FREE_BYTES = 64 * 1024 * 1024
"""Below this much free disk no stage starts: it could not even write its manifest safely."""


class Manifest(BaseModel):
    """What an artifact is, how it was keyed and where it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    key: str
    key_parts: dict[str, Any]
    record: dict[str, Any]
    files: dict[str, str]
    provenance: dict[str, Any]
    checksum: str | None = None
    """sha256 of all of the above: a bit that flips in the manifest itself shows too. None in
    manifests from before there was one."""

    def computed_checksum(self) -> str:
        """Return what `checksum` has to be."""
        return digest_json(self.model_dump(mode="json", exclude={"checksum"}))


def say_nothing(_: str) -> None:
    """Take a line that nobody reads."""


class Store:
    """Artifacts below one root folder.

    Args:
        root: The store's folder; made when missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    @property
    def address(self) -> str:
        """What other processes open it by."""
        return str(self.root)

    @property
    def caches(self) -> Path | None:
        """Folder of caches, where it is shared storage that is read through one."""
        return None

    def check_writable(self) -> tuple[str, ...]:
        """Look whether it can be written, before MLflow, whose database lies in it, is blamed.

        Returns:
            What to tell of it.

        Raises:
            ArtifactError: It cannot be.
        """
        try:
            make_folder(self.root)
            with TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise ArtifactError(
                f"store.folder: {self.root} cannot be written ({error.strerror or error}). Name a "
                "folder that you may write to, on a disk with space."
            ) from error
        return ()

    def folder(self, stage: str, key: str) -> Path:
        """Return where an artifact lies, or would lie."""
        return self.root / stage / key

    def holder(self, path: Path) -> tuple[str, str] | None:
        """Return stage and key of the artifact that a path is of, or lies in; None for no such."""
        if not path.is_relative_to(self.root):
            return None
        parts = path.relative_to(self.root).parts
        return (parts[0], parts[1]) if len(parts) > 1 and _KEY.fullmatch(parts[1]) else None

    def artifacts(self, stage: str | None = None) -> list[tuple[str, str]]:
        """List what stands here, whole or damaged, as stage and key.

        Args:
            stage: One stage; None for all.
        """
        # Only stages have requests and known keys: reports and downloaded versions lie in such
        # folders, too. A run that is killed after the seal leaves no known key.
        found = (self.root.glob(f"{folder}/{stage or '*'}") for folder in ("known", "requests"))
        stages = {each.name for folders in found for each in folders if each.is_dir()}
        return sorted(
            (each, folder.name)
            for each in stages
            for folder in (self.root / each).glob("*")
            if folder.is_dir() and _KEY.fullmatch(folder.name)
        )

    def share_files(self, folder: str) -> None:
        """Make a folder's files those of all machines, where the store is on shared storage.

        Args:
            folder: Below the root; each file's name tells its content, and none is ever changed.
        """

    def damage(self, stage: str, key: str, *, afresh: bool = False) -> str | None:
        """Say what is wrong with a stored artifact.

        Args:
            stage: Stage name.
            key: Stage key.
            afresh: Read every file, those too that no program has written to since they were read.

        Returns:
            None when every file is as the manifest says; else one sentence part, such as
            ``artifact deleted`` or ``artifact damaged: rows.parquet``.
        """
        folder = self.folder(stage, key)
        if not folder.is_dir():
            return "artifact deleted"
        try:
            manifest = self.manifest(stage, key)
        except ArtifactError:
            return "artifact damaged: manifest.json unreadable"
        fault = find_fault(manifest, stage, key)
        return fault or _first_difference(folder, manifest.files, afresh=afresh)

    def manifest(self, stage: str, key: str) -> Manifest:
        """Read an artifact's manifest.

        Raises:
            ArtifactError: It is missing or not a manifest.
        """
        path = self.folder(stage, key) / MANIFEST
        try:
            return Manifest.model_validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{path}: expected an artifact's manifest, but it cannot be read ({error}). "
                "Run the recipe again: the stage is computed anew."
            ) from error

    def verify(self, stage: str, key: str) -> None:
        """Read an artifact's files through.

        Raises:
            ArtifactError: The artifact is missing or damaged.
        """
        wrong = self.damage(stage, key)
        if wrong is not None:
            raise ArtifactError(f"{self.folder(stage, key)}: {wrong}. Run the recipe again.")

    def load(self, stage: str, key: str, record_type: type[R]) -> R:
        """Return a stored record with its folder set to where the artifact lies now.

        Raises:
            ArtifactError: The artifact is missing or damaged.
        """
        self.verify(stage, key)
        return self._located(self.manifest(stage, key), record_type)

    def known_keys(self, stage: str) -> list[tuple[str, dict[str, Any]]]:
        """List the keys that a stage ever had here, latest first, with their parts."""
        folder = self.root / "known" / stage
        paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        known = []
        for path in reversed(paths):
            # They only explain; one that a full disk cut short must not stop a run.
            with suppress(ValueError):
                known.append((path.stem, json.loads(path.read_text("utf-8"))))
        return known

    @contextmanager
    def lock(self, key: str, tell: Callable[[str], object] = say_nothing) -> Iterator[None]:
        """Hold a stage key; a second holder waits, and a dead holder frees it.

        Args:
            key: Stage key.
            tell: Is told who is waited for, where that is known.

        Raises:
            ArtifactError: The disk is full or not writable.
        """
        lock = self._file_lock(key)
        try:
            make_folder(lock_folder := self.root / "locks")
            lock.acquire()
        except OSError as error:
            raise disk_error(lock_folder, error) from error
        try:
            yield
        finally:
            lock.release()

    def _file_lock(self, key: str) -> FileLock:
        return FileLock(self.root / "locks" / f"{key}.lock")

    def remove_left_work(self, stage: str, key: str) -> None:
        """Remove the work folder of an artifact that stands: whoever sealed it was killed then.

        Nothing is removed while a process of this machine computes the stage, and a folder that
        cannot be removed stays.

        Args:
            stage: Stage name.
            key: Stage key.
        """
        work = self._work(stage, key)
        if not work.is_dir():
            return
        # `Timeout` is an `OSError`: whoever holds the key is at work in that folder.
        with suppress(OSError), self._file_lock(key).acquire(blocking=False):
            self._remove_work(stage, key)

    def _remove_work(self, stage: str, key: str) -> None:
        artifact = self.folder(stage, key)
        with only_links_change([artifact / path for path in list_files(artifact)]):
            # The scratch folder may hold a second link to weights that became the artifact.
            shutil.rmtree(self._work(stage, key), ignore_errors=True)

    def _work(self, stage: str, key: str) -> Path:
        return self.root / stage / f"{key}.work"

    def keep_request(self, stage: str, key: str, text: str) -> None:
        """Keep what a stage was asked, so that a person can run it again by hand.

        Args:
            stage: Stage name.
            key: Stage key.
            text: The request as JSON.

        Raises:
            ArtifactError: The disk is full or not writable.
        """
        path = self.root / "requests" / stage / f"{key}.json"
        try:
            make_folder(path.parent)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise disk_error(path, error) from error

    def open_work(self, stage: str, key: str) -> Path:
        """Prepare the folder of a computation: a fresh `artifact/`, a kept `scratch/`.

        Returns:
            The work folder.

        Raises:
            ArtifactError: The disk is full or not writable.
        """
        work = self._work(stage, key)
        try:
            # What an earlier computation left there would become part of this one's artifact.
            if (work / "artifact").exists():
                shutil.rmtree(work / "artifact")
            make_folder(work / "artifact")
            make_folder(work / "scratch")
        except OSError as error:
            raise disk_error(work, error) from error
        free = shutil.disk_usage(work).free
        if free < MIN_FREE_BYTES:
            raise ArtifactError(
                f"{self.root}: {free / 2**20:.0f} MiB free, at least "
                f"{MIN_FREE_BYTES / 2**20:.0f} MiB needed to start {stage}. "
                "Free some disk space or set store.folder to another disk; finished stages stay."
            )
        return work

    def seal(
        self,
        stage: str,
        key: str,
        record: R,
        *,
        key_parts: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> R:
        """Make a finished computation an artifact: fsync, manifest last, rename.

        Args:
            stage: Stage name.
            key: Stage key.
            record: What the stage returned; its folder is rewritten to the final place.
            key_parts: What the key was made of, for explanations.
            provenance: Who computed it, when, and how long it took.

        Returns:
            The record as later readers get it.

        Raises:
            ArtifactError: The disk is full or not writable.
        """
        work = self._work(stage, key)
        try:
            self._write_manifest(work / "artifact", stage, key, record, key_parts, provenance)
            replace_folder(work / "artifact", self.folder(stage, key))
            known = self.root / "known" / stage
            make_folder(known)
            write_synced(known / f"{key}.json", json.dumps(key_parts, sort_keys=True))
        except OSError as error:
            raise disk_error(work, error) from error
        self._remove_work(stage, key)
        return self._located(self.manifest(stage, key), type(record))

    def _write_manifest(
        self,
        artifact: Path,
        stage: str,
        key: str,
        record: Record,
        key_parts: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> None:
        sync_files(artifact)
        body = record.model_dump(mode="json")
        body.pop("folder", None)
        manifest = Manifest(
            stage=stage,
            key=key,
            key_parts=dict(key_parts),
            record=body,
            files=digest_files(artifact),
            provenance={**provenance, "sealed_at": datetime.now(UTC).isoformat()},
        )
        manifest = manifest.model_copy(update={"checksum": manifest.computed_checksum()})
        write_synced(artifact / MANIFEST, manifest.model_dump_json(indent=2))
        sync_folders(artifact)

    def _located(self, manifest: Manifest, record_type: type[R]) -> R:
        body = dict(manifest.record)
        if issubclass(record_type, ArtifactRecord):
            body["folder"] = self.folder(manifest.stage, manifest.key)
        try:
            return record_type.model_validate(body)
        except ValidationError as error:
            raise ArtifactError(
                f"{self.folder(manifest.stage, manifest.key)}: its record does not fit "
                f"{record_type.__name__} of this version of retune ({error.error_count()} fields). "
                "Delete the folder and run the recipe again."
            ) from error


def find_fault(manifest: Manifest, stage: str, key: str) -> str | None:
    """Say what is wrong with a manifest that is to be that of an artifact; None for nothing."""
    if (manifest.stage, manifest.key) != (stage, key):
        return "artifact damaged: manifest.json of another artifact"
    if manifest.checksum not in (None, manifest.computed_checksum()):
        return "artifact damaged: manifest.json changed"
    return None


def _first_difference(folder: Path, files: Mapping[str, str], *, afresh: bool) -> str | None:
    for name, digest in files.items():
        path = folder / name
        try:
            there = path.is_file()
        except OSError:
            there = False  # No file can have such a name.
        if not there:
            return f"artifact damaged: {name} missing"
        try:
            found = digest_file(path, afresh=afresh)
            # Nothing is computed anew because of what was remembered: the file has to differ.
            if found != digest and digest_file(path, afresh=True) != digest:
                return f"artifact damaged: {name} changed"
        except DataError:
            if path.is_file():
                raise
            return f"artifact damaged: {name} missing"  # Taken away while it was looked at.
    return None
