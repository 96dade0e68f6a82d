"""Where the store and MLflow are, for commands that a recipe need not be given to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retune.errors import ConfigError
from retune.recipe.loading import load_recipe
from retune.registry.ledger.ledger import LEDGERS
from retune.spine.opening import open_folder, open_recipe_store
from retune.tracking import Tracking, check_tracking, choose_tracking, connect
from retune.tracking.addresses import is_sqlite, sqlite_path


@dataclass(frozen=True)
class RegistryPlace:
    """Where the registry of a model is, and what the store keeps of it.

    Attributes:
        uri: Address of MLflow.
        root: The store's folder.
    """

    uri: str
    root: Path

    @property
    def ledgers(self) -> Path:
        """Folder of the ledgers."""
        return self.root / LEDGERS

    @property
    def versions(self) -> Path:
        """Folder that versions of a remote store are downloaded to."""
        return self.root / "champions"


def locate_services(recipe: Path | None, store: Path) -> tuple[Path, Tracking]:
    """Return the store's folder, and where MLflow is.

    Args:
        recipe: The recipe that says so; None takes `store`.
        store: Store folder, without a recipe.

    Returns:
        The folder, absolute, that of its cache for a shared store, and the address.

    Raises:
        ConfigError: The recipe is wrong, or the address of MLflow cannot be one.
    """
    if recipe is None:
        root = open_folder(store).root
        return root, choose_tracking(
            None, None, name="", store_root=root, resolve=lambda path: path.expanduser().absolute()
        )
    from tasks.runs.opening import track

    loaded = load_recipe(recipe)
    opened = open_recipe_store(loaded)
    return opened.root, track(loaded, opened)


def find_registry(recipe: Path | None, store: Path) -> tuple[Path, str]:
    """Find a registry that is there already: a command that only reads makes none.

    Args:
        recipe: The recipe that says where MLflow is; None takes `store`.
        store: Store folder, without a recipe.

    Returns:
        The store's folder, absolute, and the address of MLflow.

    Raises:
        ConfigError: There is no database at the place.
        ServiceError: MLflow does not answer.
    """
    root, tracking = locate_services(recipe, store)
    if is_sqlite(tracking.uri) and not sqlite_path(tracking.uri).is_file():
        raise ConfigError(
            f"{sqlite_path(tracking.uri)}: there is no MLflow database, so nothing was registered "
            "here. Say where it is with --recipe RECIPE or --store FOLDER."
        )
    check_tracking(tracking.uri)
    return root, tracking.uri


def open_registry(name: str, recipe: Path | None, store: Path) -> RegistryPlace:
    """Find the registry that has a model, before anything is asked of it.

    Args:
        name: The registered model.
        recipe: The recipe that says where MLflow is; None takes `store`.
        store: Store folder, without a recipe.

    Raises:
        ConfigError: There is no database at the place, or no such model in it.
        ServiceError: MLflow does not answer.
    """
    from retune.registry.mlflow_calls import as_service_error
    from retune.registry.versions.names import check_known, check_spelling

    root, uri = find_registry(recipe, store)
    place = RegistryPlace(uri, root)
    with as_service_error(uri):
        client = connect(uri)
        check_spelling(client, name)
        # A model that was deleted in MLflow still has its history.
        if not (place.ledgers / f"{name}.jsonl").is_file():
            check_known(client, name)
    return place
