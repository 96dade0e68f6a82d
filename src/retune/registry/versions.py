"""Versions of a registered model: found by digest or alias, and where their files lie."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock

from retune.digests import digest_folder, digest_json
from retune.errors import ArtifactError, ConfigError
from retune.records import ChampionRef
from retune.registry.forms import Parts, locate_parts
from retune.tracking import connect, unreachable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

Alias = Literal["champion", "challenger"]

CHAMPION: Alias = "champion"
CHALLENGER: Alias = "challenger"
DIGEST_TAG = "retune.merged_digest"
COMPARED_TAG = "retune.compared_with"

_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "300", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""Sending gigabytes takes longer than the limits that keep live metrics from blocking a run."""


def find_opponent(
    uri: str, model_name: str, merged_digest: str, *, cache_folder: Path | None = None
) -> ChampionRef | None:
    """Return the version that a released model has to beat.

    That is the champion; when the released model itself is champion, the one that it was compared
    with when it became so. Then a run that is repeated asks the same question and reuses all.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        merged_digest: Digest of the merged model.
        cache_folder: Where versions of a remote store are downloaded to, once each; None for
            ``retune/champions`` in the user's cache folder.

    Returns:
        The version with folders that can be loaded, or None where there is none yet.

    Raises:
        ArtifactError: The champion's files are gone, or not of a model that retune registers.
        ServiceError: MLflow does not answer.
    """
    with as_service_error(uri), patience():
        client = connect(uri)
        version = opponent_version(client, model_name, merged_digest)
        if version is None:
            return None
        return _located(client, uri, version, cache_folder)


def locate_version(
    uri: str, model_name: str, wanted: int | str, *, cache_folder: Path | None = None
) -> ChampionRef:
    """Return a version of a registered model by its number or an alias.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        wanted: Number of the version, or an alias.
        cache_folder: Where versions of a remote store are downloaded to, as in `find_opponent`.

    Returns:
        The version with folders that can be loaded.

    Raises:
        ConfigError: There is no such model, version or alias.
        ArtifactError: Its files are gone, or not of a model that retune registers.
        ServiceError: MLflow does not answer.
    """
    with as_service_error(uri), patience():
        client = connect(uri)
        by_number = isinstance(wanted, int)
        number = wanted if by_number else alias_holder(client, model_name, str(wanted))
        version = None if number is None else get_version(client, model_name, int(number))
        if version is None:
            raise _absent(client, model_name, wanted)
        return _located(client, uri, version, cache_folder)


def _located(
    client: MlflowClient, uri: str, version: ModelVersion, cache_folder: Path | None
) -> ChampionRef:
    folder = local_folder(client, version) or _downloaded(
        uri, version, cache_folder or _default_cache()
    )
    parts = locate_parts(folder)
    if parts is None:
        raise ArtifactError(
            f"{folder}: version {version.version} of {version.name} has to be scored, but its "
            "files are gone or not those of a model that retune registers. Restore them; "
            f"to retrain without it, take the alias {CHAMPION} from it in the MLflow UI."
        )
    return ChampionRef(
        digest=version.tags.get(DIGEST_TAG) or _digest_of(parts),
        version=int(version.version),
        weights=parts.weights,
        tokenizer=parts.tokenizer,
        adapter=parts.adapter,
    )


def _digest_of(parts: Parts) -> str:
    weights = digest_folder(parts.weights)
    if parts.adapter is None:
        return weights
    return digest_json({"weights": weights, "adapter": digest_folder(parts.adapter)})


def _absent(client: MlflowClient, name: str, wanted: int | str) -> ConfigError:
    what = f"version {wanted}" if isinstance(wanted, int) else f"alias {wanted}"
    versions = sorted(
        int(each.version) for each in client.search_model_versions(f"name = '{name}'")
    )
    if not versions:
        known = ", ".join(sorted(each.name for each in client.search_registered_models()))
        return ConfigError(
            f"models:/{name}: the MLflow registry has no model of this name with a version; it "
            f"has: {known or 'none'}. Correct the name, or tracking.uri of the recipe."
        )
    aliases = client.get_registered_model(name).aliases
    return ConfigError(
        f"models:/{name}: there is no {what}. It has the versions "
        f"{', '.join(map(str, versions))} and the aliases {', '.join(sorted(aliases)) or 'none'}."
    )


@contextmanager
def as_service_error(uri: str) -> Iterator[None]:
    """Turn what MLflow, its HTTP client or its database raises into a `ServiceError`."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError) as error:
        raise unreachable(uri, error) from error


@contextmanager
def patience() -> Iterator[None]:
    """Give requests the time that files need, for the length of a block."""
    before = {name: os.environ.get(name) for name in _PATIENCE}
    os.environ.update(_PATIENCE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _is_absent(error: Exception) -> bool:
    # An alias that does not exist is an invalid parameter to MLflow, a version is an absent one.
    return getattr(error, "error_code", "") in (
        "RESOURCE_DOES_NOT_EXIST",
        "INVALID_PARAMETER_VALUE",
    )


def get_version(client: MlflowClient, name: str, version: int) -> ModelVersion | None:
    """Return a version, or None when it does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, str(version))
    except MlflowException as error:
        if _is_absent(error):
            return None
        raise


def alias_holder(client: MlflowClient, name: str, alias: str) -> int | None:
    """Return the number of the version that an alias points to, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return int(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if _is_absent(error):
            return None
        raise


def _versions_of(client: MlflowClient, name: str, merged_digest: str) -> list[ModelVersion]:
    found = client.search_model_versions(
        f"name = '{name}' and tags.`{DIGEST_TAG}` = '{merged_digest}'"
    )
    return sorted(found, key=lambda version: int(version.version), reverse=True)


def find_version(client: MlflowClient, name: str, merged_digest: str) -> int | None:
    """Return the latest version of a merged model whose files are there, or None."""
    found = _versions_of(client, name, merged_digest)
    return next((int(version.version) for version in found if has_files(client, version)), None)


def opponent_version(client: MlflowClient, name: str, merged_digest: str) -> ModelVersion | None:
    """Return the version that a merged model has to beat; see `find_opponent`."""
    holder = alias_holder(client, name, CHAMPION)
    champion = None if holder is None else get_version(client, name, holder)
    if champion is None or champion.tags.get(DIGEST_TAG) != merged_digest:
        return champion
    compared_with = champion.tags.get(COMPARED_TAG)
    found = _versions_of(client, name, compared_with) if compared_with else []
    return found[0] if found else None


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
