"""Names of registered models, as people write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from retune.errors import ConfigError
from retune.recipe.sections import RegistryConfig
from retune.registry.ledger.locking import LOCK_PREFIX
from retune.registry.mlflow_calls import is_absent

if TYPE_CHECKING:
    from mlflow import MlflowClient


def check_spelling(client: MlflowClient, name: str) -> None:
    """Refuse what cannot be the name of a registered model.

    Args:
        client: From `connect`.
        name: As a person wrote it.

    Raises:
        ConfigError: It has other characters than the recipe lets a name have.
        MlflowException: MLflow does not answer.
    """
    if not re.fullmatch(_pattern(), name):
        raise ConfigError(
            f"{name!r} is no name of a registered model: expected letters, digits, '.', '_' and "
            f"'-', as registry.model_name has them. The registry has: {list_names(client)}."
        )


def check_known(client: MlflowClient, name: str) -> None:
    """Refuse a name that the registry has no model of.

    Args:
        client: From `connect`.
        name: As a person wrote it.

    Raises:
        ConfigError: There is no such registered model.
        MlflowException: MLflow does not answer.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if not is_absent(error):
            raise
        raise ConfigError(
            f"{name}: the MLflow registry has no model of this name; it has: "
            f"{list_names(client)}. Correct the name, or say where MLflow is with --recipe or "
            "--store."
        ) from error


def list_names(client: MlflowClient) -> str:
    """Return the names of all registered models, for a message."""
    names = sorted(each.name for each in client.search_registered_models())
    return ", ".join(name for name in names if not name.startswith(LOCK_PREFIX)) or "none"


def _pattern() -> str:
    return str(RegistryConfig.model_json_schema()["properties"]["model_name"]["pattern"])
