"""Where the files of a registered version lie: on this machine, or fetched from a remote store."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from retune.digests import digest_json
from retune.registry.forms.release_form import locate_parts

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def as_local_path(location: str) -> Path | None:
    """Return the path behind an address of artifacts, None for a remote store."""
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    return Path(local_file_uri_to_path(location)) if is_local_uri(location) else None


def local_folder(client: MlflowClient, version: ModelVersion) -> Path | None:
    """Return where a version's files lie on this machine, None for a remote store."""
    return as_local_path(client.get_model_version_download_uri(version.name, version.version))


def has_files(client: MlflowClient, version: ModelVersion) -> bool:
    """Tell whether a version's weights are there; of a remote store it is taken on trust."""
    folder = local_folder(client, version)
    # A remote store is asked when the version is loaded; listing it here would cost every plan.
    return folder is None or locate_parts(folder) is not None


def fetch_folder(
    client: MlflowClient, version: ModelVersion, cache_folder: Path | None = None
) -> Path:
    """Return the folder of a version on this machine, downloaded once where the store is remote.

    Args:
        client: From `connect`.
        version: The version.
        cache_folder: Where versions of a remote store are downloaded to; None for
            ``retune/champions`` in the user's cache folder.
    """
    local = local_folder(client, version)
    return local or _downloaded(client.tracking_uri, version, cache_folder or _default_cache())


def _default_cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "retune" / "champions"


def _downloaded(uri: str, version: ModelVersion, cache: Path) -> Path:
    import mlflow

    folder = cache / digest_json([uri, version.name, int(version.version)])[:32]
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            mlflow.artifacts.download_artifacts(
                f"models:/{version.name}/{version.version}",
                dst_path=str(partial),
                tracking_uri=uri,
                registry_uri=uri,
            )
            partial.rename(folder)
    return folder
