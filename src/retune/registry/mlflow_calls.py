"""Asking MLflow: what its errors mean, and the time that it is given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from retune.tracking import unreachable

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "300", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""Sending gigabytes takes longer than the limits that keep live metrics from blocking a run."""


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


def is_absent(error: Exception) -> bool:
    """Tell whether an error of MLflow says that there is no such model, version or alias."""
    # An alias that does not exist is an invalid parameter to MLflow, a version is an absent one.
    return getattr(error, "error_code", "") in (
        "RESOURCE_DOES_NOT_EXIST",
        "INVALID_PARAMETER_VALUE",
    )


def make_registered_model(
    client: MlflowClient, name: str, tags: dict[str, str] | None = None
) -> bool:
    """Make a registered model where there is none of this name.

    Args:
        client: From `connect`.
        name: Its name.
        tags: Its first tags, written together with it.

    Returns:
        Whether it was made: of several that ask at once, one alone is told so.

    Raises:
        MlflowException: MLflow does not answer, or refuses the name.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, tags=tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return False
    return True
