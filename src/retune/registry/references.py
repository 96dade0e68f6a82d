"""What a registry refers to in a store: the stages that its versions were made by, and its history.

A store is cleaned up only of what no version and no line of a ledger needs. Which versions there
are MLflow says; where it does not have a model that the store has manifests of, which may be
because another MLflow was asked, all of them count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from retune.errors import ConfigError
from retune.registry.ledger.facts import OF_SERVERS
from retune.registry.ledger.ledger import LEDGERS, Ledger
from retune.registry.mlflow_calls import as_service_error
from retune.registry.records import LedgerEntry, VersionManifest
from retune.registry.versions.finding import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    Alias,
    alias_holder,
)
from retune.registry.versions.manifests import MANIFESTS, read_manifest
from retune.tracking import connect, has_database, shown_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_ALIASES: tuple[Alias, ...] = (CHAMPION, CHALLENGER, PREVIOUS)
_MADE_CHAMPION = ("promoted", "rolled_back")


@dataclass
class References:
    """What is referred to, and by whom; the first reason that is found is kept.

    Attributes:
        keys: Reasons by stage key.
        digests: Reasons by content digest of what a stage made.
    """

    keys: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def add(self, other: References) -> None:
        """Take over what is not known yet."""
        self.keys = {**other.keys, **self.keys}
        self.digests = {**other.digests, **self.digests}


def list_models(root: Path) -> list[str]:
    """Return the registered models that a store has manifests or a ledger of.

    Args:
        root: The store's folder.
    """
    manifests = (path.name for path in (root / MANIFESTS).glob("*") if path.is_dir())
    ledgers = (path.stem for path in (root / LEDGERS).glob("*.jsonl"))
    return sorted({*manifests, *ledgers})


def find_references(
    uri: str, model_names: Iterable[str], root: Path, *, with_rejected: bool = True
) -> References:
    """Find what the versions and the ledgers of registered models refer to.

    Args:
        uri: Address of MLflow.
        model_names: The registered models.
        root: The store's folder.
        with_rejected: Whether versions count that were rejected, or whose approval expired, where
            they never were champion and no alias names them.

    Raises:
        ConfigError: There is no MLflow database at the address, and the store knows of versions.
        ArtifactError: A ledger does not hold.
        ServiceError: MLflow does not answer.
    """
    found = References()
    if not has_database(uri):
        if not (known := list_models(root)):
            return found
        raise ConfigError(
            f"{root} has manifests or a ledger of {', '.join(known)}, and there is no MLflow "
            f"database at {shown_uri(uri)}: which versions there are cannot be known. Name the "
            "MLflow that they were registered in: tracking.uri, or MLFLOW_TRACKING_URI."
        )
    for name in model_names:
        found.add(_find_of_model(uri, name, root, with_rejected=with_rejected))
    return found


def _find_of_model(uri: str, name: str, root: Path, *, with_rejected: bool) -> References:
    entries = Ledger(uri, name, root / LEDGERS).entries()
    with as_service_error(uri):
        client = connect(uri)
        versions = sorted(int(each.version) for each in _search(client, name))
        aliases = {each: alias_holder(client, name, each) for each in _ALIASES} if versions else {}
    found = References()
    for version, reason in _order(name, versions, aliases, entries):
        if with_rejected or not _is_rejected(version, aliases, entries):
            _refer(found, read_manifest(uri, name, version, root / MANIFESTS), reason)
    if not versions:
        for manifest in _read_local(root / MANIFESTS / name):
            _refer(found, manifest, f"manifest of {name}, which MLflow does not have")
    for entry in entries:
        found.digests.setdefault(entry.decision, f"history of {name}")
        if with_rejected or entry.kind in _MADE_CHAMPION:
            found.digests.setdefault(entry.challenger, f"history of {name}")
            found.digests.setdefault(entry.opponent, f"history of {name}")
    found.digests.pop("", None)
    return found


def _search(client: MlflowClient, name: str) -> Iterable[ModelVersion]:
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _order(
    name: str,
    versions: Iterable[int],
    aliases: Mapping[Alias, int | None],
    entries: Iterable[LedgerEntry],
) -> list[tuple[int, str]]:
    """Return versions with what they are called, those of an alias first."""
    named = [(held, f"{alias} of {name}") for alias, held in aliases.items() if held is not None]
    told = {
        version: f"rejected version of {name}"
        if _is_rejected(version, aliases, entries)
        else f"version of {name}"
        for version in versions
    }
    return named + sorted(told.items(), key=lambda each: each[1], reverse=True)


def _is_rejected(
    version: int, aliases: Mapping[Alias, int | None], entries: Iterable[LedgerEntry]
) -> bool:
    champions = {each.to_version for each in entries if each.kind in _MADE_CHAMPION}
    about = (each.kind for each in entries if each.version == version)
    last = [kind for kind in about if kind not in OF_SERVERS][-1:]
    decided = last in (["rejected"], ["expired"])
    return decided and version not in champions and version not in aliases.values()


def _read_local(folder: Path) -> Iterable[VersionManifest | None]:
    for path in sorted(folder.glob("*.json")):
        try:
            yield VersionManifest.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            # Of a later release, or cut short: nobody can read what it refers to.
            yield None


def _refer(found: References, manifest: VersionManifest | None, reason: str) -> None:
    if manifest is None:
        return
    for key in manifest.stages.values():
        found.keys.setdefault(key, reason)
    found.digests.setdefault(manifest.released, reason)
