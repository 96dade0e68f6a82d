"""Where the adapter of a released version is: in the version itself, or in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from retune.digests import digest_folder
from retune.errors import ArtifactError, ConfigError
from retune.model_records import AdapterRef, ChampionRef
from retune.modeling.head_files import HEAD_WEIGHTS
from retune.modeling.methods.adapter_folders import CONFIG
from retune.records import LOG_FOLDER
from retune.registry.records import VersionManifest
from retune.spine.opening import open_store
from retune.spine.store import MANIFEST

_MERGE = "merge_adapter"
NOT_OF_AN_ADAPTER = (LOG_FOLDER, MANIFEST, "README.md")
"""What lies beside an adapter in the store and is no part of it."""


@dataclass(frozen=True)
class FoundAdapter:
    """An adapter's files, and the weights that it was trained on.

    Attributes:
        folder: The adapter.
        base: Folder of the base; None where the store does not say, or it is gone.
    """

    folder: Path
    base: Path | None


def find_adapter(
    version: ChampionRef, store_root: Path, manifest: VersionManifest | None
) -> FoundAdapter:
    """Find the adapter that a version was made of.

    Args:
        version: The version.
        store_root: The store of the run that made it.
        manifest: The version's manifest; without it the store's merges are looked through.

    Returns:
        The adapter, its files checked.

    Raises:
        ConfigError: The version was not made of an adapter that peft loads.
        ArtifactError: The adapter is no longer there.
    """
    if version.adapter is not None:
        return _checked(FoundAdapter(version.adapter, version.weights))
    request = _read_merge(version.digest, store_root, manifest)
    base = Path(request["base"]["folder"]) if request else None
    adapter = _of_manifest(store_root, manifest) or (_of_request(request) if request else None)
    if adapter is None:
        raise ArtifactError(
            f"{store_root}: version {version.version} was merged, and the adapter that it was "
            "merged of is not in this store, or was changed there. Name the store of its run with "
            "--store or --recipe; what the registry has can be exported --as merged, and for "
            "most families --as gguf."
        )
    if adapter.kind == "full":
        raise ConfigError(
            f"version {version.version} was trained as a whole (method full): there is no adapter. "
            "Export it --as merged."
        )
    return _checked(FoundAdapter(adapter.folder, base if base and base.is_dir() else None))


def _checked(found: FoundAdapter) -> FoundAdapter:
    if (found.folder / HEAD_WEIGHTS).is_file():
        raise ConfigError(
            f"{found.folder}: a classification head that was trained alone, which peft does not "
            "load. Export the version --as merged."
        )
    if not (found.folder / CONFIG).is_file():
        raise ArtifactError(f"{found.folder}: expected an adapter, but there is no {CONFIG}.")
    return found


def _of_manifest(root: Path, manifest: VersionManifest | None) -> AdapterRef | None:
    """Return the adapter that a manifest names, where the store still holds it whole."""
    label = manifest.adapter_stage if manifest else None
    if manifest is None or label is None or label not in manifest.stages:
        return None
    stage = label.partition(".")[0]
    store, key = open_store(root), manifest.stages[label]
    return None if store.damage(stage, key) else store.load(stage, key, AdapterRef)


def _of_request(request: Mapping[str, Any]) -> AdapterRef | None:
    """Return the adapter that a merge was given, where it still has the content that it had."""
    try:
        adapter = AdapterRef.model_validate(request["adapter"])
    except ValidationError:
        return None
    if not adapter.folder.is_dir():
        return None
    found = digest_folder(adapter.folder, without=NOT_OF_AN_ADAPTER)
    return adapter if found == adapter.digest else None


def _read_merge(
    released: str, root: Path, manifest: VersionManifest | None
) -> dict[str, Any] | None:
    """Return what the merge that made a release was given."""
    key = manifest.stages.get(_MERGE) if manifest else None
    key = key or _key_of_merge(released, root)
    path = root / "requests" / _MERGE / f"{key}.json"
    if key is None or not path.is_file():
        return None
    inputs: dict[str, Any] = json.loads(path.read_text("utf-8"))["inputs"]
    return inputs


def _key_of_merge(released: str, root: Path) -> str | None:
    for path in sorted((root / _MERGE).glob(f"*/{MANIFEST}")):
        if json.loads(path.read_text("utf-8"))["record"].get("digest") == released:
            return path.parent.name
    return None
