"""Where MLflow is: what the recipe says, else what MLflow's own variables say, else the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from retune.errors import ConfigError
from retune.recipe.credentials import holds_secret, masked

URI_VARIABLE = "MLFLOW_TRACKING_URI"
EXPERIMENT_VARIABLE = "MLFLOW_EXPERIMENT_NAME"
_PASSED_OVER = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID")
_MISREAD = set("%?#")
"""MLflow reads these as parts of an address, wherever they stand in a path."""


@dataclass(frozen=True)
class Tracking:
    """Where a run is written.

    Attributes:
        uri: Address of the server or database; a path in it is absolute.
        experiment: Name of the experiment.
        notes: One sentence per variable of MLflow that counts, or is passed over.
    """

    uri: str
    experiment: str
    notes: tuple[str, ...]


def choose_tracking(
    uri: str | None,
    experiment: str | None,
    *,
    name: str,
    store_root: Path,
    resolve: Callable[[Path], Path],
    shared: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Tracking:
    """Decide where MLflow is: the recipe wins, and where it is silent the environment counts.

    Args:
        uri: `tracking.uri` of the recipe.
        experiment: `tracking.experiment` of the recipe.
        name: The recipe's name, an experiment's name of last resort.
        store_root: The artifact store's folder.
        resolve: Makes a path absolute, from the project's root.
        shared: Address of the store, where machines share it.
        environment: Variables of the process.

    Returns:
        Address and experiment, and what to tell of them.

    Raises:
        ConfigError: An address cannot be one, or the variable holds a password.
    """
    said = {key: environment.get(key, "").strip() for key in (URI_VARIABLE, EXPERIMENT_VARIABLE)}
    notes = []
    if uri is None and said[URI_VARIABLE]:
        found = _absolute(_without_password(said[URI_VARIABLE]), URI_VARIABLE, resolve)
        notes.append(f"MLflow: {shown_uri(found)}, from {URI_VARIABLE}; tracking.uri would win")
    else:
        if uri is None and shared is not None:
            raise ConfigError(
                f"tracking.uri: found none, and no {URI_VARIABLE}, beside store.folder: {shared}. "
                "Machines that share a store need one registry: two of them would each have their "
                "own champion. Expected the address of an MLflow server that all of them reach, "
                "such as http://host:5000 (deployments/README.md)."
            )
        found = _absolute(uri, "tracking.uri", resolve) if uri else default_uri(store_root)
    if shared is not None and is_sqlite(found):
        notes.append(
            f"MLflow: {shown_uri(found)} is a file, and the store is shared: only machines that "
            "reach this file know the same champion"
        )
    if experiment is None and said[EXPERIMENT_VARIABLE]:
        notes.append(f"MLflow experiment: {said[EXPERIMENT_VARIABLE]}, from {EXPERIMENT_VARIABLE}")
    registry = environment.get("MLFLOW_REGISTRY_URI", "").strip()
    passed_over = [each for each in _PASSED_OVER if environment.get(each)]
    passed_over += ["MLFLOW_REGISTRY_URI"] if registry and registry != found else []
    if passed_over:
        notes.append(
            f"{', '.join(passed_over)} passed over: each run is a new one, and models are "
            "registered where runs are written"
        )
    return Tracking(found, experiment or said[EXPERIMENT_VARIABLE] or name, tuple(notes))


def setting_of(uri: str) -> str:
    """Return the name of what a server's address was set by, for advice."""
    return URI_VARIABLE if uri == os.environ.get(URI_VARIABLE, "").strip() else "tracking.uri"


def default_uri(store_root: Path) -> str:
    """Return the address of the SQLite database that MLflow uses without a server.

    Args:
        store_root: The artifact store's folder.

    Returns:
        ``sqlite:///<store_root>/mlflow/mlflow.db``.

    Raises:
        ConfigError: The folder's name has a character that MLflow reads as part of an address.
    """
    path = store_root.resolve() / "mlflow" / "mlflow.db"
    if found := sorted(_MISREAD & set(str(path))):
        raise ConfigError(
            f"store.folder: {store_root.resolve()} has {' '.join(found)} in its path, which MLflow "
            "reads as part of an address. Use another folder, or set tracking.uri."
        )
    return f"sqlite:///{path}"


def default_artifact_root(store_root: Path) -> str:
    """Return the folder of artifacts for a database without a server."""
    return str(store_root.resolve() / "mlflow" / "artifacts")


def shown_uri(uri: str) -> str:
    """Return an address without user, password and query, for messages."""
    parts = urlsplit(uri)
    if is_sqlite(uri) or not parts.netloc:
        return masked(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def is_sqlite(uri: str) -> bool:
    """Tell whether an address is that of a SQLite file, whatever its driver."""
    return uri.partition(":")[0].partition("+")[0] == "sqlite"


def sqlite_path(uri: str) -> Path:
    """Return the file of a SQLite address."""
    return Path(_path_of(uri))


def _path_of(uri: str) -> str:
    return uri.partition(":///")[2].partition("?")[0].removeprefix("file:")


def _absolute(uri: str, setting: str, resolve: Callable[[Path], Path]) -> str:
    """Make the path in a SQLite address absolute; SQLite itself takes the current folder."""
    try:
        urlsplit(uri)
    except ValueError as error:
        raise ConfigError(
            f"{setting}: {uri} is no address ({error}); expected one such as http://host:5000 or "
            "sqlite:///PATH/mlflow.db."
        ) from error
    if not is_sqlite(uri):
        return uri
    written = _path_of(uri)
    if not written or written == ":memory:":
        raise ConfigError(
            f"{setting}: {uri} names no file; expected sqlite:///PATH, from the project's root, or "
            "sqlite:////PATH from the root of the disk."
        )
    path = str(resolve(Path(written)))
    if path == written:
        return uri
    if found := sorted(_MISREAD & set(path.removesuffix(written))):
        raise ConfigError(
            f"{setting}: {path} has {' '.join(found)} in its path, which MLflow reads as part of "
            "an address. Name a file elsewhere."
        )
    return uri.replace(written, path, 1)


def _without_password(uri: str) -> str:
    if holds_secret(uri):
        raise ConfigError(
            f"{URI_VARIABLE}: {shown_uri(uri)} holds a password, and addresses are stored with "
            "each run. Give it in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        )
    return uri
