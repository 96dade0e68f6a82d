"""What stands in a store, why each thing stays, and what nothing refers to.

Whoever asks says what is referred to (`Needs`): keys and digests that recipes and a registry name,
and stages that a recipe may come to whose inputs are not known yet. Beside that stays what a run is
at work with, what was used lately, and what the kept artifacts were made of.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from retune.digests import list_files
from retune.errors import ArtifactError
from retune.spine.store import Manifest, Store
from retune.spine.usage import find_oldest_run, is_held, list_run_locks

TRASH = "trash"
"""Folder of a store that holds what is being deleted."""
_WORK = re.compile(r"([0-9a-f]{32})\.work")
_KEY = re.compile(r"[0-9a-f]{32}")
_MARK_SLACK_SECONDS = 1.0
"""Times of files advance in ticks: a mark of a run may be a little older than its beginning."""

Kind = Literal["artifact", "work", "request", "log", "lock", "trash"]


@dataclass(frozen=True)
class PossibleNeed:
    """A stage that a recipe comes to, of inputs that it does not know before others have run.

    Attributes:
        stage: Its name.
        parts: What its key is made of, but for inputs: version, settings and libraries.
        settings: What it reads of the recipe, as a request has it.
        reason: Whose need it is.
    """

    stage: str
    parts: Mapping[str, Any]
    settings: Mapping[str, Any]
    reason: str


@dataclass(frozen=True)
class Needs:
    """What is referred to from outside of the store; each with the reason, as a person reads it.

    Attributes:
        keys: Reasons by stage key. A key has one stage alone; what it was made of is needed, too.
        digests: Reasons by digest of what a stage made, which stays without what it was made of.
        possible: What may be asked for of what is there; with what that was made of.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    possible: Sequence[PossibleNeed] = ()


@dataclass(frozen=True)
class Item:
    """One thing in a store that stays or goes as a whole.

    Attributes:
        kind: What it is.
        stage: Of which stage; empty for what is of none.
        key: Of which key; empty for what is of none.
        path: The file or folder.
        reason: Why it stays, or goes.
        stays: Whether it stays.
        used_at: When it was last used or written, in seconds since 1970.
        bytes: Size of its files.
        freed: Bytes that removing it, with all else that goes, gives back to the disk: a file that
            is linked from elsewhere as well, such as a registered version, gives back nothing.
    """

    kind: Kind
    stage: str
    key: str
    path: Path
    reason: str
    stays: bool
    used_at: float = 0.0
    bytes: int = 0
    freed: int = 0


def survey(store: Store, needs: Needs, *, keep_seconds: float, now: float) -> list[Item]:
    """Look through a store; nothing is changed.

    Args:
        store: A store in a folder of this machine.
        needs: What is referred to.
        keep_seconds: What was used within so many seconds stays.
        now: The time that it is taken to be, in seconds since 1970.

    Returns:
        Everything that this knows of, by stage. Reports, ledgers, manifests of versions, MLflow's
        folder and the parts of earlier keys are history, and not among it.
    """
    found = _Survey(store, needs, keep_seconds, now)
    items = [*found.artifacts(), *found.works()]
    staying = {item.key for item in items if item.stays}
    items += [*found.requests(staying), *found.locks(staying), *found.rest()]
    return _weigh(items)


class _Survey:
    def __init__(self, store: Store, needs: Needs, keep_seconds: float, now: float) -> None:
        self._store, self._needs = store, needs
        self._days = f"used within {keep_seconds / 86_400:g} days"
        self._young_since = now - keep_seconds
        # Before anything is looked at: a run that begins later marks what it takes.
        self._oldest_run = find_oldest_run(store.root)

    def artifacts(self) -> Iterator[Item]:
        """Yield each artifact; what is needed stays with what it was made of."""
        keys = self._store.artifacts()
        manifests = {each: self._read_manifest(*each) for each in keys}
        reasons: dict[tuple[str, str], str] = {}
        for each in keys:
            if (reason := self._find_need(*each, manifests[each])) is not None:
                self._follow(each, reason, reasons)
        for stage, key in keys:
            path, manifest = self._store.folder(stage, key), manifests[stage, key]
            used_at = _modified(path)
            # A digest names one thing alone: a decision is history without the weights behind it.
            named = self._name_digest(manifest) if manifest else None
            reason = reasons.get((stage, key)) or named or self._find_use(key, used_at)
            gone = "nothing refers to it" if manifest else "its manifest is damaged"
            yield _item("artifact", stage, key, path, used_at, reason, gone)

    def works(self) -> Iterator[Item]:
        """Yield each folder of a computation that goes on, or has not come to its end."""
        for path in sorted(self._store.root.glob("*/*.work")):
            if match := _WORK.fullmatch(path.name):
                stage, key = path.parent.name, match[1]
                used_at = max([_modified(path), *(_modified(each) for each in path.rglob("*"))])
                reason = self._find_resumption(stage, key) or self._find_use(key, used_at)
                gone = "a computation that nobody goes on with"
                yield _item("work", stage, key, path, used_at, reason, gone)

    def requests(self, staying: set[str]) -> Iterator[Item]:
        """Yield what stages were asked; it stays as long as what came of it."""
        for path in sorted((self._store.root / "requests").glob("*/*.json")):
            key, used_at = path.stem, _modified(path)
            reason = "of what stays" if key in staying else self._needs.keys.get(key)
            reason = reason or self._find_use(key, used_at)
            gone = "a request of what is gone"
            yield _item("request", path.parent.name, key, path, used_at, reason, gone)

    def locks(self, staying: set[str]) -> Iterator[Item]:
        """Yield the lock files of stage keys and of runs."""
        for path in sorted((self._store.root / "locks").glob("*.lock")):
            key = path.name.partition(".")[0]
            if _KEY.fullmatch(key) is None:
                continue
            reason = "held" if is_held(path) else "of what stays" if key in staying else None
            yield _item("lock", "", key, path, 0.0, reason, "a lock of what is gone")
        for path in list_run_locks(self._store.root):
            held = is_held(path)
            told = "a run at work" if held else "a lock of a run that died"
            yield Item("lock", "", "", path, told, held)

    def rest(self) -> Iterator[Item]:
        """Yield logs of stage processes, and what an earlier deletion left in the trash."""
        for path in sorted((self._store.root / "logs").glob("stages-*.log")):
            used_at = _modified(path)
            yield _item("log", "", "", path, used_at, self._find_use("", used_at), "an old log")
        for path in sorted((self._store.root / TRASH).glob("*")):
            yield Item("trash", "", "", path, "left by a deletion that was stopped", False)

    def _read_manifest(self, stage: str, key: str) -> Manifest | None:
        try:
            return self._store.manifest(stage, key)
        except ArtifactError:
            return None

    def _find_need(self, stage: str, key: str, manifest: Manifest | None) -> str | None:
        if (reason := self._needs.keys.get(key)) is not None:
            return reason
        if manifest is None:
            return None
        parts = manifest.key_parts
        for need in self._needs.possible:
            if need.stage == stage and {**parts, **need.parts} == parts:
                return need.reason
        return None

    def _name_digest(self, manifest: Manifest) -> str | None:
        return self._needs.digests.get(str(manifest.record.get("digest")))

    def _find_resumption(self, stage: str, key: str) -> str | None:
        """Return who may go on with a computation, whose key's parts are not written down yet."""
        if (reason := self._needs.keys.get(key)) is not None:
            return reason
        request = self._read_request(stage, key)
        for need in self._needs.possible:
            if need.stage == stage and request and request.get("settings") == need.settings:
                return need.reason
        return None

    def _find_use(self, key: str, used_at: float) -> str | None:
        if is_held(self._store.root / "locks" / f"{key}.lock"):
            return "being computed"
        if self._oldest_run is not None and used_at >= self._oldest_run - _MARK_SLACK_SECONDS:
            return "used by a run at work"
        return self._days if used_at >= self._young_since else None

    def _follow(
        self, artifact: tuple[str, str], reason: str, reasons: dict[tuple[str, str], str]
    ) -> None:
        """Give an artifact a reason, and what it was made of the same one."""
        waiting = [artifact]
        while waiting:
            each = waiting.pop()
            if each not in reasons:
                reasons[each] = reason
                request = self._read_request(*each)
                waiting += self._list_inputs(request.get("inputs") if request else None)

    def _list_inputs(self, value: Any) -> Iterator[tuple[str, str]]:
        """Yield stage and key of each artifact that a request's inputs lie in."""
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            for each in value:
                yield from self._list_inputs(each)
        elif isinstance(value, str) and (found := self._store.holder(Path(value))) is not None:
            yield found

    def _read_request(self, stage: str, key: str) -> dict[str, Any] | None:
        path = self._store.root / "requests" / stage / f"{key}.json"
        # One that a full disk cut short says nothing; it is no reason to stop.
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads(path.read_text("utf-8"))
            return found if isinstance(found, dict) else None
        return None


def _item(
    kind: Kind, stage: str, key: str, path: Path, used_at: float, reason: str | None, gone: str
) -> Item:
    """Return what stays for a reason; without one it goes for another."""
    return Item(kind, stage, key, path, reason or gone, reason is not None, used_at)


def _modified(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _weigh(items: Sequence[Item]) -> list[Item]:
    """Fill in sizes: of each item, and what goes with the last link to a file."""
    files = {item.path: list(list_stats(item.path)) for item in items}
    links: Counter[tuple[int, int]] = Counter()
    for item in items:
        if not item.stays:
            links.update((stat.st_dev, stat.st_ino) for stat in files[item.path])
    counted: set[tuple[int, int]] = set()
    weighed = []
    for item in items:
        freed = 0
        for stat in files[item.path]:
            inode = (stat.st_dev, stat.st_ino)
            if not item.stays and inode not in counted and links[inode] >= stat.st_nlink:
                counted.add(inode)
                freed += stat.st_size
        size = sum(stat.st_size for stat in files[item.path])
        weighed.append(replace(item, bytes=size, freed=freed))
    return weighed


def list_stats(path: Path) -> Iterator[os.stat_result]:
    """Yield what the system says of each file; a run beside this may take one away."""
    for each in [path / name for name in list_files(path)] if path.is_dir() else [path]:
        with suppress(FileNotFoundError):
            yield each.lstat()
