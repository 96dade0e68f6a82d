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

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeVar

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from retune.digests import digest_file, digest_files, digest_json, list_files
from retune.errors import ArtifactError
from retune.records import ArtifactRecord, Record

R = TypeVar("R", bound=Record)

MANIFEST = "manifest.json"
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


class Store:
    """Artifacts below one root folder.

    Args:
        root: The store's folder; made when missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def folder(self, stage: str, key: str) -> Path:
        """Return where an artifact lies, or would lie."""
        return self.root / stage / key

    def damage(self, stage: str, key: str) -> str | None:
        """Say what is wrong with a stored artifact.

        Args:
            stage: Stage name.
            key: Stage key.

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
        if (manifest.stage, manifest.key) != (stage, key):
            return "artifact damaged: manifest.json of another artifact"
        if manifest.checksum not in (None, manifest.computed_checksum()):
            return "artifact damaged: manifest.json changed"
        return _first_difference(folder, manifest.files)

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
    def lock(self, key: str) -> Iterator[None]:
        """Hold a stage key; a second holder waits, and a dead holder frees it."""
        folder = self.root / "locks"
        _make_folder(folder)
        with FileLock(folder / f"{key}.lock"):
            yield

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
            _make_folder(path.parent)
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
        work = self.root / stage / f"{key}.work"
        try:
            shutil.rmtree(work / "artifact", ignore_errors=True)
            _make_folder(work / "artifact")
            _make_folder(work / "scratch")
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
        work = self.root / stage / f"{key}.work"
        try:
            self._write_manifest(work / "artifact", stage, key, record, key_parts, provenance)
            _replace_folder(work / "artifact", self.folder(stage, key))
            known = self.root / "known" / stage
            _make_folder(known)
            _write_synced(known / f"{key}.json", json.dumps(key_parts, sort_keys=True))
        except OSError as error:
            raise disk_error(work, error) from error
        shutil.rmtree(work, ignore_errors=True)
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
        for path in list_files(artifact):
            _sync(artifact / path)
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
        _write_synced(artifact / MANIFEST, manifest.model_dump_json(indent=2))
        for folder in (*(path for path in artifact.rglob("*") if path.is_dir()), artifact):
            _sync(folder)

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


def check_writable(root: Path) -> None:
    """Look whether a store can be written, before MLflow, whose database lies in it, is blamed.

    Args:
        root: The store's folder; made when missing.

    Raises:
        ArtifactError: It cannot be.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise ArtifactError(
            f"store.folder: {root} cannot be written ({error.strerror or error}). Name a folder "
            "that you may write to, on a disk with space."
        ) from error


def disk_error(path: Path, error: OSError) -> ArtifactError:
    """Turn an error of writing to the store into advice about its disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ArtifactError(
            f"{path}: no disk space left. Free some, or set store.folder to another disk, and run "
            "again: finished stages and checkpoints are kept."
        )
    return ArtifactError(f"{path}: cannot be written ({error.strerror or error}).")


def _first_difference(folder: Path, files: Mapping[str, str]) -> str | None:
    for name, digest in files.items():
        path = folder / name
        if not path.is_file():
            return f"artifact damaged: {name} missing"
        if digest_file(path) != digest:
            return f"artifact damaged: {name} changed"
    return None


def _replace_folder(source: Path, target: Path) -> None:
    # A damaged artifact may still stand at the target; a folder cannot be renamed over it.
    if target.exists():
        shutil.rmtree(target)
    os.replace(source, target)
    _sync(target.parent)


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def _write_synced(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
