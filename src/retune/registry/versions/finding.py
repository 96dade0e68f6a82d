"""Versions of a registered model: found by digest or alias, and where their files lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from retune.digests import digest_folder, digest_json
from retune.errors import ArtifactError, ConfigError
from retune.model_records import ChampionRef
from retune.registry.forms.release_form import Parts, locate_parts
from retune.registry.mlflow_calls import as_service_error, is_absent, patience
from retune.registry.versions.files import fetch_folder, has_files
from retune.registry.versions.names import list_names
from retune.tracking import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

Alias = Literal["champion", "challenger", "previous"]

CHAMPION: Literal["champion"] = "champion"
CHALLENGER: Literal["challenger"] = "challenger"
PREVIOUS: Literal["previous"] = "previous"
"""What a rollback goes back to: the last champion before this one that was not withdrawn."""
DIGEST_TAG = "retune.merged_digest"
COMPARED_TAG = "retune.compared_with"


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
        return _located(client, version, cache_folder)


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
        return _located(client, _find(client, model_name, wanted), cache_folder)


def resolve_version(
    uri: str, model_name: str, wanted: int | str, *, cache_folder: Path | None = None
) -> tuple[int, Path]:
    """Return the number of a version and its folder on this machine.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        wanted: Number of the version, or an alias.
        cache_folder: Where versions of a remote store are downloaded to, as in `find_opponent`.

    Raises:
        ConfigError: There is no such model, version or alias.
        ServiceError: MLflow does not answer.
    """
    with as_service_error(uri), patience():
        client = connect(uri)
        version = _find(client, model_name, wanted)
        return int(version.version), fetch_folder(client, version, cache_folder)


def alias_target(uri: str, model_name: str, alias: str) -> int | None:
    """Return the version that an alias points to now, or None.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        alias: Such as `CHAMPION`.

    Raises:
        ServiceError: MLflow does not answer.
    """
    with as_service_error(uri), patience():
        return alias_holder(connect(uri), model_name, alias)


def _find(client: MlflowClient, model_name: str, wanted: int | str) -> ModelVersion:
    number = wanted if isinstance(wanted, int) else alias_holder(client, model_name, wanted)
    version = None if number is None else get_version(client, model_name, number)
    if version is None:
        raise _absent(client, model_name, wanted)
    return version


def _located(client: MlflowClient, version: ModelVersion, cache_folder: Path | None) -> ChampionRef:
    folder = fetch_folder(client, version, cache_folder)
    parts = locate_parts(folder)
    if parts is None:
        raise ArtifactError(
            f"{folder}: version {version.version} of {version.name} has to be scored, but its "
            "files are gone or not those of a model that retune registers. Restore them, or go "
            f"back to an earlier one with `retune rollback {version.name} --reason TEXT`; to "
            f"retrain without any, take the alias {CHAMPION} from it in the MLflow UI."
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
        return ConfigError(
            f"models:/{name}: the MLflow registry has no model of this name with a version; it "
            f"has: {list_names(client)}. Correct the name, or tracking.uri of the recipe."
        )
    aliases = client.get_registered_model(name).aliases
    return ConfigError(
        f"models:/{name}: there is no {what}. It has the versions "
        f"{', '.join(map(str, versions))} and the aliases {', '.join(sorted(aliases)) or 'none'}."
    )


def get_version(client: MlflowClient, name: str, version: int) -> ModelVersion | None:
    """Return a version, or None when it does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, str(version))
    except MlflowException as error:
        if is_absent(error):
            return None
        raise


def alias_holder(client: MlflowClient, name: str, alias: str) -> int | None:
    """Return the number of the version that an alias points to, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return int(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if is_absent(error):
            return None
        raise


def name_digest(client: MlflowClient, name: str, located: ChampionRef) -> None:
    """Write the digest of a version that another tool registered beside it.

    Decisions know the champion that they compared with by this tag. Without it, a comparison with
    such a version would always look as if the champion had been another one.

    Args:
        client: From `connect`.
        name: The registered model.
        located: The version, from `find_opponent`.
    """
    found = get_version(client, name, located.version)
    if found is not None and DIGEST_TAG not in found.tags:
        client.set_model_version_tag(name, str(located.version), DIGEST_TAG, located.digest)


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
