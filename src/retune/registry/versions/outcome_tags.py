"""What became of a version later, in the tags and the artifacts of the run that made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from retune.registry.mlflow_calls import as_service_error
from retune.registry.versions.finding import get_version
from retune.tracking import connect


def tag_run(uri: str, model_name: str, version: int, tags: Mapping[str, str]) -> None:
    """Tag the run that made a version; one that another tool registered may have none.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        version: Number of the version.
        tags: By name.

    Raises:
        ServiceError: MLflow does not answer.
    """
    with as_service_error(uri):
        client = connect(uri)
        found = get_version(client, model_name, version)
        if found is None or not found.run_id:
            return
        for name, value in tags.items():
            client.set_tag(found.run_id, name, value)


def send_page(uri: str, model_name: str, version: int, page: Path) -> None:
    """Send the page of a model to the run that made a version, where there is one.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        version: Number of the version.
        page: The page; one that the run has is replaced.

    Raises:
        ServiceError: MLflow does not answer.
    """
    with as_service_error(uri):
        client = connect(uri)
        found = get_version(client, model_name, version)
        if found is not None and found.run_id:
            client.log_artifact(found.run_id, str(page), "overview")
