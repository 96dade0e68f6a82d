"""A snapshot folder as a version: saved in MLflow's transformers flavour, and loaded from there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retune.data.tokenizers import end_token_ids, load_tokenizer
from retune.provenance import library_versions
from retune.registry.versions import TOKENIZER, as_local_path
from retune.tracking import open_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import Model as MLmodel
    from mlflow.models import ModelSignature

    from retune.modeling.loading import LoadedModel

_NEEDED_TO_SERVE = ("accelerate", "mlflow", "torch", "transformers")
_SERVED_TOKENS = 256


def create_version(
    client: MlflowClient,
    name: str,
    snapshot: Path,
    *,
    prompt: str,
    tags: Mapping[str, str],
    context: Mapping[str, str],
    scratch: Path,
) -> int:
    """Make a version of a registered model from a snapshot folder.

    Args:
        client: From `connect`.
        name: The registered model; made when it is the first version.
        snapshot: Plain weights with tokenizer.
        prompt: A prompt as the model reads it, kept as input example.
        tags: Tags of the version.
        context: `experiment`, `artifact_root`, `run_id`.
        scratch: Folder for what is sent to a remote store.

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
        _save(client, logged, snapshot, prompt, run_id, scratch / "saved")
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    if run_id:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    _make_registered_model(client, name)
    _look_up_models_at(client.tracking_uri)
    version = client.create_model_version(
        name,
        source=f"models:/{logged.model_id}",
        run_id=run_id,
        tags=dict(tags),
        model_id=logged.model_id,
    )
    return int(version.version)


def reload_version(uri: str, name: str, version: int) -> LoadedModel:
    """Load a version the way a consumer does, through MLflow's transformers flavour.

    Args:
        uri: Address of MLflow.
        name: The registered model.
        version: The version.

    Returns:
        Model and tokenizer, on the device and in the dtype that scorers use.

    Raises:
        MlflowException: MLflow does not answer, or cannot load it.
    """
    import mlflow.transformers

    from retune.modeling.devices import choose_device, choose_dtype
    from retune.modeling.loading import LoadedModel

    _look_up_models_at(uri)
    device = choose_device()
    parts = mlflow.transformers.load_model(
        f"models:/{name}/{version}",
        return_type="components",
        dtype=choose_dtype("auto", device),
    )
    model, tokenizer = parts["model"].to(device).eval(), parts["tokenizer"]
    return LoadedModel(model, tokenizer, end_token_ids(tokenizer, Path(tokenizer.name_or_path)))


def _look_up_models_at(uri: str) -> None:
    import mlflow

    # MLflow resolves ``models:/`` by its global addresses, even where a client has its own; without
    # them it would make an empty database in the working directory and look there.
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)


def _save(
    client: MlflowClient,
    logged: LoggedModel,
    snapshot: Path,
    prompt: str,
    run_id: str | None,
    scratch: Path,
) -> None:
    # What is large is written once where the store is on this machine.
    local = as_local_path(logged.artifact_location)
    folder = local or scratch
    shutil.rmtree(folder, ignore_errors=True)
    _save_flavour(snapshot, folder, _described(logged, run_id), prompt)
    _complete(folder, snapshot)
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


def _save_flavour(snapshot: Path, folder: Path, description: MLmodel, prompt: str) -> None:
    import mlflow.transformers
    from transformers import AutoModelForCausalLM

    # The weights' own dtype: what scorers compute in depends on the device. A path instead of the
    # loaded model would be saved, but not loaded again by transformers 5.
    model = AutoModelForCausalLM.from_pretrained(snapshot, dtype="auto", local_files_only=True)
    mlflow.transformers.save_model(
        {"model": model, "tokenizer": load_tokenizer(snapshot)},
        path=str(folder),
        task="text-generation",
        mlflow_model=description,
        signature=_signature(),
        input_example=[prompt],
        model_card=_model_card(snapshot),
        # Without them MLflow infers some, which asks for torchvision.
        pip_requirements=_requirements(),
    )


def _model_card(snapshot: Path) -> Any:
    from huggingface_hub import ModelCard

    path = snapshot / "README.md"
    return ModelCard.load(path) if path.is_file() else None


def _complete(folder: Path, snapshot: Path) -> None:
    # A scorer looks for the end tokens of a generation config next to the tokenizer.
    config = snapshot / "generation_config.json"
    if config.is_file():
        shutil.copyfile(config, folder / TOKENIZER / config.name)
    # MLflow writes a licence text that points to the hub page of a model that is not there.
    (folder / "LICENSE.txt").unlink(missing_ok=True)


def _signature() -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    # `mlflow models serve` drops every generation parameter that is not declared here.
    params = [
        ParamSpec("max_new_tokens", DataType.long, _SERVED_TOKENS),
        ParamSpec("do_sample", DataType.boolean, False),
        ParamSpec("return_full_text", DataType.boolean, False),
        # A rendered chat has its begin token; a second one would be another prompt.
        ParamSpec("add_special_tokens", DataType.boolean, False),
    ]
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string)]),
        outputs=Schema([ColSpec(DataType.string)]),
        params=ParamSchema(params),
    )


def _requirements() -> list[str]:
    # An index has no local versions such as 2.13.0+cpu.
    versions = library_versions(_NEEDED_TO_SERVE)
    return [f"{name}=={text.partition('+')[0]}" for name, text in versions.items()]


def _make_registered_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
