"""Reaching MLflow: the SQLite database, and a client that never waits for minutes."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock

from retune.errors import ServiceError
from retune.recipe.credentials import masked
from retune.tracking.addresses import is_sqlite, setting_of, shown_uri, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ENVIRONMENT = {
    # With MLflow's own limits (120 s, 7 retries) closing a run on a dead server takes 9 minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}
_NAMES_OF_SERVERS = ("databricks", "databricks-uc")
_CONNECT_SECONDS = 3.0
_LOCK_SECONDS = 120.0


def check_tracking(uri: str) -> None:
    """Open MLflow's database or server, and make the database where it is SQLite.

    Args:
        uri: Address of the database or server.

    Raises:
        ServiceError: It cannot be reached within seconds, or is no MLflow.
    """
    try:
        if is_sqlite(uri):
            _make_sqlite(uri)
        else:
            _refuse_file_store(uri)
            _refuse_closed_port(uri)
            connect(uri).search_experiments(max_results=1)
    except ServiceError:
        raise
    except Exception as error:  # MLflow lets through whatever its driver raises
        raise unreachable(uri, error) from error


def has_database(uri: str) -> bool:
    """Say whether there can be anything at an address: False where SQLite's file is not there."""
    return not is_sqlite(uri) or sqlite_path(uri).is_file()


def unreachable(uri: str, error: Exception) -> ServiceError:
    """Turn what MLflow raised into advice, without a password of the address."""
    # What urllib3 names last is what happened; before it stands the whole request.
    told = str(error).replace(uri, shown_uri(uri)).rpartition("Caused by ")[2]
    cause = masked(told).strip().splitlines() or [""]
    setting = setting_of(uri)
    named = next((name for name in os.environ if name.startswith("MLFLOW_") and name in told), None)
    advice = (
        f"Correct or unset {named}"
        if named is not None and named != setting
        else "Make its folder writable, or set tracking.uri to another database"
        if is_sqlite(uri)
        else "Install the database's driver (PostgreSQL's: pip install 'retune[server]') or "
        f"correct {setting}"
        if isinstance(error, ModuleNotFoundError)
        else f"Start it (mlflow server), correct {setting}, or remove it to use SQLite"
    )
    return ServiceError(
        f"MLflow at {shown_uri(uri)} cannot be used ({type(error).__name__}: {cause[0]:.300}). "
        f"{advice}, and run again: finished stages are kept."
    )


def connect(uri: str) -> MlflowClient:
    """Return a client with short time-outs, without telemetry, progress bars and chatter.

    Args:
        uri: Address of the database or server.

    Returns:
        A client for tracking and registry; a server is not asked yet.
    """
    client_type = import_client()
    import mlflow.store.db.utils

    # Each retry of a request would be a line on the user's screen.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    # A database that refuses is asked ten times over 100 s; no setting shortens that.
    mlflow.store.db.utils.MAX_RETRY_COUNT = 3
    return client_type(tracking_uri=uri, registry_uri=uri)


def import_client() -> type[MlflowClient]:
    """Import MLflow under our settings, which it reads while it is imported."""
    # What the user has set stands.
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    client_type: type[MlflowClient] = MlflowClient
    return client_type


def open_experiment(client: MlflowClient, name: str, artifact_root: str) -> str:
    """Return an experiment's id, made or restored where needed.

    Args:
        client: From `connect`.
        name: The experiment's name.
        artifact_root: Folder of its artifacts; a server has its own and is not told.

    Returns:
        The experiment's id.
    """
    from mlflow.exceptions import MlflowException

    is_server = urlsplit(client.tracking_uri).scheme in ("http", "https")
    location = None if is_server or not artifact_root else artifact_root
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            # Another run made it since we looked.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise error
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _make_sqlite(uri: str) -> None:
    path = sqlite_path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes that migrate an empty database at once break it.
    with FileLock(f"{path}.lock", timeout=_LOCK_SECONDS):
        with closing(sqlite3.connect(path, timeout=_CONNECT_SECONDS)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("SELECT count(*) FROM sqlite_master")
            database.execute("ROLLBACK")
        client = connect(uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)


def _refuse_file_store(uri: str) -> None:
    if urlsplit(uri).scheme in ("", "file") and uri not in _NAMES_OF_SERVERS:
        raise ServiceError(
            f"{setting_of(uri)}: {uri} is a folder, and MLflow 3 no longer keeps runs in folders. "
            "Use sqlite:///PATH/mlflow.db, the http address of a server, or remove it for the "
            "default."
        )


def _refuse_closed_port(uri: str) -> None:
    # A database driver would wait minutes for a host that drops packets. HTTP has a limit of its
    # own, and may go through a proxy that a socket does not know.
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https") or parts.hostname is None or parts.port is None:
        return
    with socket.create_connection((parts.hostname, parts.port), timeout=_CONNECT_SECONDS):
        pass
