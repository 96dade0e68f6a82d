"""What the registry and MLflow's run know of a version beside its weights: names, card, prompts."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from retune.model_records import ChampionRef
from retune.records import Record
from retune.registry.mlflow_calls import as_service_error, patience
from retune.registry.versions.finding import locate_version
from retune.tracking import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient

BASE_TAG = "retune.base_model"
CARD = "README.md"
"""What a run's model card is called among its files in MLflow."""
_EXAMPLE = "input_example.json"
_LEVELS = 4
"""How far above the weights a version's folder lies at most."""


class VersionDescription(Record):
    """A version with what is said of it."""

    model_name: str
    located: ChampionRef
    aliases: tuple[str, ...]
    """Those that point to it."""
    base_name: str
    """Hub id or folder of the model that was tuned; empty where the version does not say."""
    run_id: str
    """MLflow's run that made it; empty for none."""
    card: str | None
    """The model card of its run; None where the run or the card is gone."""
    prompts: tuple[str, ...]
    """Prompts that were kept with it, as the model reads them."""


def describe_version(uri: str, model_name: str, wanted: int | str) -> VersionDescription:
    """Find a version, and what is said of it.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        wanted: Number of the version, or an alias.

    Returns:
        The version with folders that can be loaded.

    Raises:
        ConfigError: There is no such model, version or alias.
        ArtifactError: Its files are gone, or not of a model that retune registers.
        ServiceError: MLflow does not answer.
    """
    located = locate_version(uri, model_name, wanted)
    with as_service_error(uri), patience():
        client = connect(uri)
        version = client.get_model_version(model_name, str(located.version))
        run_id = version.run_id or ""
        return VersionDescription(
            model_name=model_name,
            located=located,
            aliases=tuple(sorted(version.aliases)),
            base_name=version.tags.get(BASE_TAG, ""),
            run_id=run_id,
            card=_read_card(client, run_id) if run_id else None,
            prompts=_read_prompts(located.weights),
        )


def _read_card(client: MlflowClient, run_id: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        if not any(each.path == CARD for each in client.list_artifacts(run_id)):
            return None
    except MlflowException as error:
        # A run may be deleted while its version stays.
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    with TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, CARD, folder)).read_text("utf-8")


def _read_prompts(weights: Path) -> tuple[str, ...]:
    """Return the texts of the example that MLflow keeps beside a model."""
    places = (folder / _EXAMPLE for folder in list(weights.parents)[:_LEVELS])
    path = next((each for each in places if each.is_file()), None)
    if path is None:
        return ()
    example = json.loads(path.read_text("utf-8"))
    rows = example.get("data", []) if isinstance(example, dict) else example
    cells = [row[0] if isinstance(row, list) and row else row for row in rows]
    return tuple(cell for cell in cells if isinstance(cell, str))
