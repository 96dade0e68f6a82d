"""Manifests of versions: what each was made of, in the store and beside its run in MLflow.

`<folder>/NAME/VERSION.json` is a manifest, `VERSION.rows.parquet` beside it the rows that it is of.
Both are written to the artifacts of the version's run too, and read from there where the local ones
are gone or belong to another registry's version of this number.

The rows are written before a version can become champion, under the model's digest, and take the
version's name with its manifest: a run that dies between the two leaves a champion whose manifest
is missing until the run is repeated, and whose rows are known all the same.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from retune.data.parts.row_history import digest_row_history
from retune.errors import ArtifactError
from retune.registry.mlflow_calls import as_service_error, patience
from retune.registry.records import VersionManifest
from retune.registry.versions.finding import (
    CHAMPION,
    DIGEST_TAG,
    alias_holder,
    get_version,
)
from retune.tracking import connect, has_database
from retune.whole_files import replacing

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MANIFESTS = "manifests"
"""Folder of a store that manifests lie in."""
ARTIFACTS = "manifest"
"""Folder of a run's artifacts that a manifest and its rows lie in."""
ADAPTER_ARTIFACTS = "adapter"
"""Folder of a run's artifacts that the adapter lies in, where it is one."""


def read_manifests(
    uri: str, model_name: str, versions: Iterable[int], folder: Path
) -> list[VersionManifest]:
    """Return the manifests of some versions, in their order; those without one are left out.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        versions: Their numbers.
        folder: The store's folder of manifests.

    Raises:
        ServiceError: MLflow does not answer.
    """
    found = (read_manifest(uri, model_name, each, folder) for each in versions)
    return [each for each in found if each is not None]


def manifest_path(folder: Path, model_name: str, version: int) -> Path:
    """Return where a version's manifest lies, or would lie.

    Args:
        folder: `<store>/manifests`.
        model_name: The registered model.
        version: Number of the version.
    """
    return folder / model_name / f"{version}.json"


def rows_path(folder: Path, model_name: str, version: int) -> Path:
    """Return where the rows of a version's manifest lie, or would lie; arguments as above."""
    return folder / model_name / f"{version}.rows.parquet"


def kept_rows_path(folder: Path, model_name: str, released: str, run: str) -> Path:
    """Return where the rows of a model lie until its version has a manifest.

    Args:
        folder: `<store>/manifests`.
        model_name: The registered model.
        released: Content digest of the released model.
        run: Of two runs that make the same model at once, each takes away its own.
    """
    return folder / model_name / f"{released[:32]}.{run}.rows.parquet"


def find_rows(uri: str, model_name: str, version: int, folder: Path) -> Path | None:
    """Return the file that says what the rows of a version were.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        version: Number of the version.
        folder: `<store>/manifests`; what MLflow has is copied there.

    Returns:
        The file, with the columns of `HISTORY_SCHEMA`; None where nothing says so.

    Raises:
        ServiceError: MLflow does not answer.
    """
    if read_manifest(uri, model_name, version, folder) is not None:
        return rows_path(folder, model_name, version)
    if not has_database(uri):
        return None
    with as_service_error(uri):
        found = get_version(connect(uri), model_name, version)
    released = found.tags.get(DIGEST_TAG) if found else None
    kept = kept_rows_path(folder, model_name, released, "*") if released else None
    left = sorted(kept.parent.glob(kept.name), key=lambda each: each.name) if kept else []
    return left[-1] if left else None


def write_manifest(manifest: VersionManifest, rows: Path, folder: Path) -> bool:
    """Write a version's manifest, unless the one of the same run stands there already.

    Args:
        manifest: With its version.
        rows: The rows that it is of, with the columns of `HISTORY_SCHEMA`.
        folder: `<store>/manifests`.

    Returns:
        Whether it was written; False for a run that was repeated.

    Raises:
        ArtifactError: The manifest has no version, or the disk is full or not writable.
    """
    if manifest.version is None:
        raise ArtifactError(f"{manifest.model_name}: a manifest without a version cannot be kept.")
    path = manifest_path(folder, manifest.model_name, manifest.version)
    known = _read_local(path, manifest.released)
    if known is not None and _is_same_run(known, manifest):
        return False
    try:
        with replacing(rows_path(folder, manifest.model_name, manifest.version)) as part:
            shutil.copyfile(rows, part)
        with replacing(path) as part:
            part.write_text(manifest.model_dump_json(indent=2), "utf-8")
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written ({error.strerror or error}). Make room, or its folder "
            "writable, and run again: all that is finished is reused."
        ) from error
    return True


def read_manifest(uri: str, model_name: str, version: int, folder: Path) -> VersionManifest | None:
    """Read a version's manifest; its rows then lie at `rows_path`.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        version: Number of the version.
        folder: `<store>/manifests`; what MLflow has is copied there.

    Returns:
        The manifest; None where the version does not exist, or was registered without one.

    Raises:
        ServiceError: MLflow does not answer.
    """
    if not has_database(uri):
        return None
    with as_service_error(uri), patience():
        client = connect(uri)
        found = get_version(client, model_name, version)
        if found is None:
            return None
        released = found.tags.get(DIGEST_TAG)
        path = manifest_path(folder, model_name, version)
        local = _read_local(path, released)
        if local is not None:
            return local
        return _read_local(path, released) if _fetch(client, found, path.parent) else None


def find_champion_version(uri: str, model_name: str) -> int | None:
    """Return the number of the version that is champion, or None; no file of it is touched.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.

    Raises:
        ServiceError: MLflow does not answer.
    """
    if not has_database(uri):
        return None
    with as_service_error(uri):
        return alias_holder(connect(uri), model_name, CHAMPION)


def find_run(uri: str, model_name: str, version: int) -> str | None:
    """Return the id of the run that made a version, or None.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        version: Number of the version.

    Raises:
        ServiceError: MLflow does not answer.
    """
    with as_service_error(uri):
        found = get_version(connect(uri), model_name, version)
        return (found.run_id or None) if found else None


def is_sent(uri: str, run_id: str) -> bool:
    """Tell whether a run's artifacts have a manifest.

    Args:
        uri: Address of MLflow.
        run_id: The run that made a version.

    Raises:
        ServiceError: MLflow does not answer.
    """
    with as_service_error(uri):
        return bool(connect(uri).list_artifacts(run_id, ARTIFACTS))


def fetch_adapter(uri: str, model_name: str, version: int, folder: Path) -> Path | None:
    """Copy the adapter that a version was released from out of its run's artifacts.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        version: Number of the version.
        folder: `<store>/manifests`.

    Returns:
        Its folder; None where the run has none.

    Raises:
        ServiceError: MLflow does not answer.
    """
    run_id = find_run(uri, model_name, version)
    target = folder / model_name / f"{version}.adapter"
    if run_id is None:
        return None
    with as_service_error(uri), patience():
        return target if _download(connect(uri), run_id, ADAPTER_ARTIFACTS, target) else None


def _is_same_run(known: VersionManifest, new: VersionManifest) -> bool:
    # Of a repeated run the time, the machine and the commit may be others; what it made is not.
    left_out = {"made_at", "libraries", "lock_digest", "commit", "machine", "recipe_file"}
    return known.model_dump(exclude=left_out) == new.model_dump(exclude=left_out)


def _read_local(path: Path, released: str | None) -> VersionManifest | None:
    """Return a manifest that is whole, has its rows, and is of the model that it is asked for."""
    rows = path.with_suffix(".rows.parquet")
    try:
        manifest = VersionManifest.model_validate_json(path.read_bytes())
        whole = rows.is_file() and digest_row_history(rows)[0] == manifest.rows_digest
    except (OSError, ValidationError):
        return None
    return manifest if whole and released in (None, manifest.released) else None


def _fetch(client: MlflowClient, version: ModelVersion, folder: Path) -> bool:
    if not version.run_id:
        return False
    received = folder / f"{version.version}.received"
    if not _download(client, version.run_id, ARTIFACTS, received):
        return False
    for name in (f"{version.version}.rows.parquet", f"{version.version}.json"):
        if (received / name).is_file():
            os.replace(received / name, folder / name)
    shutil.rmtree(received)
    return True


def _download(client: MlflowClient, run_id: str, artifacts: str, target: Path) -> bool:
    if not client.list_artifacts(run_id, artifacts):
        return False
    shutil.rmtree(target, ignore_errors=True)
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    client.download_artifacts(run_id, artifacts, str(partial))
    os.replace(partial / artifacts, target)
    shutil.rmtree(partial)
    return True
