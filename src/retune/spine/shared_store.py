"""A store on shared storage, with a cache of it on this machine.

Layout below the address::

    <stage>/<key>/<digest>/<name>    a file of an artifact; the digest is that of its content
    <stage>/<key>/manifest.json      written last, and by one of two writers
    known/<stage>/<key>.json         the key's parts
    leases/<key>.json                held while a stage computes

A file's place tells its content, so that two machines which computed the same key, because a lease
was lost, never mix their files. The cache is laid out like a local store, and stages read and write
there; it is verified like one, and what it lacks is fetched. An artifact is sealed in the cache
first: one that could not be sent is sent by the next run that needs it.

What only concerns the machine that ran stays there: work folders with their checkpoints, requests,
logs, reports. Ledgers and manifests of versions stand in MLflow, which machines share too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from filelock import FileLock
from pydantic import ValidationError

from retune.digests import digest_file, digest_json
from retune.errors import ArtifactError
from retune.records import Record
from retune.spine.durable_files import disk_error, replace_folder, sync_tree
from retune.spine.leases import hold_lease
from retune.spine.remote_objects import RemoteObjects
from retune.spine.store import (
    MANIFEST,
    Manifest,
    Store,
    find_fault,
    say_nothing,
)
from retune.whole_files import replacing

R = TypeVar("R", bound=Record)

_UNCONDITIONAL = (
    "its server takes no notice of If-None-Match, so that two machines may both compute a stage "
    "that they need at the same moment; artifacts stay whole"
)
_KNOWN_KEPT = 200
"""So many of a stage's earlier keys are compared with a new one, the latest."""


class SharedStore(Store):
    """Artifacts below an address of fsspec.

    Args:
        address: Such as ``s3://bucket/prefix``.
        caches: Folder of caches on this machine; this store's lies in it.

    Raises:
        ConfigError: Nothing here can read such an address.
    """

    def __init__(self, address: str, caches: Path) -> None:
        self.objects = RemoteObjects(address)
        super().__init__(caches / _folder_name(self.objects.address))
        self._manifests: dict[tuple[str, str], Manifest] = {}

    @property
    def address(self) -> str:
        """What other processes and machines open it by."""
        return self.objects.address

    @property
    def caches(self) -> Path:
        """Folder of the caches of shared stores on this machine."""
        return self.root.parent

    def check_writable(self) -> tuple[str, ...]:
        """Look whether cache and address can be written.

        Returns:
            That two machines may compute the same, where the server cannot keep them apart.

        Raises:
            ArtifactError: They cannot be.
            ServiceError: The server does not answer.
        """
        notes = super().check_writable()
        if self.objects.conditional:
            return notes
        return (*notes, f"{self.address}: {_UNCONDITIONAL}")

    def artifacts(self, stage: str | None = None) -> list[tuple[str, str]]:
        """List what stands at the address or in the cache alone, as stage and key."""
        stages = self.objects.folders("known") if stage is None else [stage]
        found = [(each, key) for each in stages for key in self.objects.folders(each)]
        # Files without a manifest are of a machine that died, or is sending still.
        shared = {each for each in found if MANIFEST in self.objects.list("/".join(each))}
        own = {each for each in super().artifacts(stage) if self._is_unsent(*each)}
        return sorted(shared | own)

    def share_files(self, folder: str) -> None:
        """Make a folder's files those of all machines: bring what is missing here, or there.

        Args:
            folder: Below the root; each file's name tells its content, and none is ever changed.

        Raises:
            ArtifactError: A file cannot be read or written, here or there.
            ServiceError: The server does not answer.
        """
        here = self.root / folder
        there = self.objects.list(folder)
        for name in there:
            if not (here / name).is_file() and (found := self.objects.read(f"{folder}/{name}")):
                _write(here / name, found.content)
        # What another process is writing just now has a hidden name.
        whole = (path for path in here.glob("[!.]*") if path.is_file())
        self.objects.send(
            [(path, f"{folder}/{path.name}") for path in whole if path.name not in there]
        )

    def damage(self, stage: str, key: str, *, afresh: bool = False) -> str | None:
        """Say what is wrong with an artifact; one that is whole is in the cache afterwards.

        Args:
            stage: Stage name.
            key: Stage key.
            afresh: Read every file of it at the address and in the cache, whatever is known.

        Raises:
            ArtifactError: It may not be read, or the cache has no room for it.
            ServiceError: The server does not answer.
        """
        if self._is_unsent(stage, key) and super().damage(stage, key, afresh=afresh) is None:
            return None
        if afresh:
            self._manifests.pop((stage, key), None)
        shared, wrong = self._shared_manifest(stage, key)
        if shared is None:
            return wrong
        if afresh and (wrong := self._read_through(shared)) is not None:
            return wrong
        if self._has(shared, afresh=afresh):
            return None
        return self._fetch(shared)

    def verify(self, stage: str, key: str) -> None:
        """Read an artifact's files through, and send it where that was not possible before.

        Raises:
            ArtifactError: The artifact is missing or damaged.
            ServiceError: The server does not answer.
        """
        super().verify(stage, key)
        if self._is_unsent(stage, key):
            self._send(stage, key)

    def seal(
        self,
        stage: str,
        key: str,
        record: R,
        *,
        key_parts: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> R:
        """Make a finished computation an artifact: in the cache, then at the address.

        Args:
            stage: Stage name.
            key: Stage key.
            record: What the stage returned; its folder is rewritten to the final place.
            key_parts: What the key was made of, for explanations.
            provenance: Who computed it, when, and how long it took.

        Returns:
            The record as later readers get it: of two machines that computed it, the first one's.

        Raises:
            ArtifactError: The disk is full, or the address may not be written.
            ServiceError: The server does not answer; the artifact is sent by the next run.
        """
        # A copy of what was deleted at the address is not what is to be sent.
        shutil.rmtree(self.folder(stage, key), ignore_errors=True)
        _write(self._unsent(stage, key), b"")
        super().seal(stage, key, record, key_parts=key_parts, provenance=provenance)
        self._send(stage, key)
        return self.load(stage, key, type(record))

    def known_keys(self, stage: str) -> list[tuple[str, dict[str, Any]]]:
        """List the keys that a stage ever had on any machine, latest first, with their parts."""
        folder = self.root / "known" / stage
        written = self.objects.list(f"known/{stage}")
        for name in sorted(written, key=written.__getitem__)[-_KNOWN_KEPT:]:
            path = folder / name
            found = None if path.is_file() else self.objects.read(f"known/{stage}/{name}")
            if found is not None:
                _write(path, found.content)
                os.utime(path, (written[name], written[name]))
        return super().known_keys(stage)

    @contextmanager
    def lock(self, key: str, tell: Callable[[str], object] = say_nothing) -> Iterator[None]:
        """Hold a stage key on all machines; a dead holder's lease ends after a while.

        Args:
            key: Stage key.
            tell: Is told who is waited for.

        Raises:
            ArtifactError: The address may not be written.
            ServiceError: The server does not answer.
        """
        with (
            super().lock(key),
            hold_lease(self.objects, f"leases/{key}.json", self._cache_id(), tell),
        ):
            # What another machine sealed, or a person deleted, while this one waited.
            for known in [each for each in self._manifests if each[1] == key]:
                del self._manifests[known]
            yield

    def _cache_id(self) -> str:
        path = self.root / "cache_id"
        with FileLock(self.root / "cache_id.lock"):
            if not path.is_file():
                _write(path, uuid.uuid4().hex.encode())
            return path.read_text("utf-8")

    def _shared_manifest(self, stage: str, key: str) -> tuple[Manifest | None, str | None]:
        """Return the manifest at the address, or what is wrong with it."""
        known = self._manifests.get((stage, key))
        if known is not None:
            return known, None
        found = self.objects.read(f"{stage}/{key}/{MANIFEST}")
        if found is None:
            return None, "artifact deleted"
        try:
            manifest = Manifest.model_validate_json(found.content)
        except ValidationError:
            return None, "artifact damaged: manifest.json unreadable"
        wrong = find_fault(manifest, stage, key)
        if wrong is None and not all(map(_is_inside, manifest.files)):
            wrong = "artifact damaged: manifest.json names files outside of it"
        if wrong is not None:
            return None, wrong
        self._manifests[stage, key] = manifest
        return manifest, None

    def _read_through(self, shared: Manifest) -> str | None:
        """Say what is wrong with the files at the address; each is brought here for as long."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=self.root, prefix="read-") as folder:
                for name, digest in shared.files.items():
                    path = Path(folder) / "file"
                    wrong = self._fetch_file(shared, name, digest, path)
                    path.unlink(missing_ok=True)
                    if wrong is not None:
                        return wrong
        except OSError as error:
            raise disk_error(self.root, error) from error
        return None

    def _has(self, shared: Manifest, *, afresh: bool = False) -> bool:
        """Say whether the cache has an artifact whole, and the same one."""
        try:
            own = self.manifest(shared.stage, shared.key)
        except ArtifactError:
            return False
        return own == shared and super().damage(shared.stage, shared.key, afresh=afresh) is None

    def _fetch(self, shared: Manifest) -> str | None:
        """Bring an artifact into the cache; return what is wrong with it at the address."""
        folder = self.folder(shared.stage, shared.key)
        partial = folder.with_name(f"{shared.key}.fetched")
        try:
            (self.root / "locks").mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / "locks" / f"{shared.key}.fetched.lock"):
                if self._has(shared):
                    return None
                for name, digest in shared.files.items():
                    wrong = self._fetch_file(shared, name, digest, partial / name)
                    if wrong is not None:
                        shutil.rmtree(partial, ignore_errors=True)
                        return wrong
                _write(partial / MANIFEST, shared.model_dump_json(indent=2).encode())
                sync_tree(partial)
                replace_folder(partial, folder)
        except OSError as error:
            raise disk_error(partial, error) from error
        return None

    def _fetch_file(self, shared: Manifest, name: str, digest: str, path: Path) -> str | None:
        # A file that an earlier try has brought is not brought again.
        if path.is_file() and digest_file(path) == digest:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        if not self.objects.fetch(_object_of(shared, name), path):
            return f"artifact damaged: {name} missing"
        return None if digest_file(path) == digest else f"artifact damaged: {name} changed"

    def _send(self, stage: str, key: str) -> None:
        """Send an artifact of the cache, files first; the one that is there already wins."""
        own, folder = self.manifest(stage, key), self.folder(stage, key)
        self.objects.send([(folder / name, _object_of(own, name)) for name in own.files])
        place, content = f"{stage}/{key}/{MANIFEST}", own.model_dump_json(indent=2).encode()
        if not self.objects.create(place, content):
            self._manifests.pop((stage, key), None)
            theirs, _ = self._shared_manifest(stage, key)
            if theirs is None or (not self._has(theirs) and self._fetch(theirs) is not None):
                # What stands there is damaged.
                self.objects.write(place, content)
                self._manifests.pop((stage, key), None)
        parts = json.dumps(own.key_parts, sort_keys=True).encode()
        self.objects.write(f"known/{stage}/{key}.json", parts)
        with suppress(FileNotFoundError):  # two processes may send at once
            self._unsent(stage, key).unlink()

    def _unsent(self, stage: str, key: str) -> Path:
        return self.root / "unsent" / stage / key

    def _is_unsent(self, stage: str, key: str) -> bool:
        return self._unsent(stage, key).is_file()


def _object_of(manifest: Manifest, name: str) -> str:
    return f"{manifest.stage}/{manifest.key}/{manifest.files[name][:16]}/{name}"


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and name != MANIFEST


def _folder_name(address: str) -> str:
    readable = re.sub(r"[^a-zA-Z0-9]+", "-", address).strip("-")[:40]
    return f"{readable}-{digest_json(address)[:8]}"


def _write(path: Path, content: bytes) -> None:
    try:
        with replacing(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise disk_error(path, error) from error
