"""A release folder as a version: saved in the flavour of its form, and loaded from there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from retune.registry.forms.release_form import form_of
from retune.registry.mlflow_calls import make_registered_model
from retune.registry.versions.files import as_local_path
from retune.tracking import open_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import Model as MLmodel

    from retune.inference.loaded_models import LoadedModel


def create_version(
    client: MlflowClient,
    name: str,
    release: Path,
    *,
    prompt: str,
    tags: Mapping[str, str],
    context: Mapping[str, str],
    scratch: Path,
    beside: Mapping[str, str],
) -> int:
    """Make a version of a registered model from a release folder.

    Args:
        client: From `connect`.
        name: The registered model; made when it is the first version.
        release: Weights with tokenizer, of any form.
        prompt: A prompt as the model reads it, kept as input example.
        tags: Tags of the version.
        context: `experiment`, `artifact_root`, `run_id`.
        scratch: Folder for what is sent to a remote store.
        beside: Texts of files that are put beside the model, by their names.

    Returns:
        The version's number.

    Raises:
        MlflowException: MLflow does not answer, or refuses it.
    """
    from mlflow.entities import LoggedModelOutput

    experiment = open_experiment(client, context["experiment"], context["artifact_root"])
    run_id = context["run_id"] or None
    logged = client.create_logged_model(
        experiment, name=name, source_run_id=run_id, tags=dict(tags)
    )
    try:
        _save(client, logged, release, prompt, run_id, scratch / "saved", beside)
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    if run_id:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    make_registered_model(client, name)
    look_up_models_at(client.tracking_uri)
    version = client.create_model_version(
        name,
        source=f"models:/{logged.model_id}",
        run_id=run_id,
        tags=dict(tags),
        model_id=logged.model_id,
    )
    return int(version.version)


def reload_version(uri: str, name: str, version: int, release: Path) -> LoadedModel:
    """Load a version the way a consumer does, through the flavour of its form.

    Args:
        uri: Address of MLflow.
        name: The registered model.
        version: The version.
        release: What the version was made from; says its form.

    Returns:
        Model and tokenizer, on the device and in the dtype that scorers use.

    Raises:
        MlflowException: MLflow does not answer, or cannot load it.
    """
    look_up_models_at(uri)
    return form_of(release).reload(f"models:/{name}/{version}")


def look_up_models_at(uri: str) -> None:
    """Let MLflow resolve ``models:/`` at an address."""
    import mlflow

    # MLflow resolves ``models:/`` by its global addresses, even where a client has its own; without
    # them it would make an empty database in the working directory and look there.
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)


def _save(
    client: MlflowClient,
    logged: LoggedModel,
    release: Path,
    prompt: str,
    run_id: str | None,
    scratch: Path,
    beside: Mapping[str, str],
) -> None:
    # What is large is written once where the store is on this machine.
    local = as_local_path(logged.artifact_location)
    folder = local or scratch
    shutil.rmtree(folder, ignore_errors=True)
    form_of(release).save(release, folder, _described(logged, run_id), prompt)
    for name, text in beside.items():
        (folder / name).write_text(text, encoding="utf-8")
    if local is None:
        client.log_model_artifacts(logged.model_id, str(folder))
        shutil.rmtree(folder)


def _described(logged: LoggedModel, run_id: str | None) -> MLmodel:
    from mlflow.models import Model

    return Model(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
        run_id=run_id,
    )
