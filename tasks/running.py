"""Opening a run of a recipe: recipe and services, checked before any work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from retune.recipe.loading import LoadedRecipe, load_recipe
from retune.spine.process import StageProcess
from retune.spine.store import Store
from retune.tracking import Tracking, choose_tracking, default_artifact_root
from tasks.run import RecipeRun, TrackedRun, open_run, stage_log
from tasks.run_watchers import current_watcher


@contextmanager
def open_recipe(
    recipe: Path, overrides: Sequence[str], *, tracked: bool = True
) -> Iterator[RecipeRun]:
    """Open a run that computes: recipe read, store and MLflow answering.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.
        tracked: Whether MLflow shows the run.

    Yields:
        The run.

    Raises:
        ConfigError: The recipe is wrong.
        ArtifactError: The store cannot be written.
        ServiceError: MLflow does not answer.
    """
    loaded = load_recipe(recipe, overrides)
    shown = TrackedRun(
        name=loaded.recipe.name,
        tags={"retune.recipe": loaded.path.name},
        params=loaded.recipe.model_dump(mode="json"),
    )
    with open_run(prepare_run(loaded), shown if tracked else None) as run:
        yield run


def prepare_run(
    loaded: LoadedRecipe, *, planning: bool = False, direct: bool = False, told: bool = False
) -> RecipeRun:
    """Build a run from a loaded recipe, without touching any service.

    Args:
        loaded: The recipe.
        planning: Whether stages are only looked up.
        direct: Whether stages run right here, torch work included, and without Prefect.
        told: Whether the notes on the recipe and on its surroundings were shown already.

    Returns:
        The run.

    Raises:
        ConfigError: The address of MLflow cannot be one.
    """
    store, watcher = Store(loaded.resolve(loaded.recipe.store.folder)), current_watcher()
    tracking = track(loaded, store.root)
    for note in () if told else (*loaded.notes, *tracking.notes):
        watcher.note(note)
    return RecipeRun(
        name=loaded.recipe.name,
        settings=loaded.recipe,
        loaded=loaded,
        store=store,
        watcher=watcher,
        process=None if direct else StageProcess(stage_log(store)),
        planning=planning,
        direct=direct,
        context={
            "tracking_uri": tracking.uri,
            "artifact_root": default_artifact_root(store.root),
            "experiment": tracking.experiment,
        },
    )


def track(loaded: LoadedRecipe, store_root: Path) -> Tracking:
    """Return where runs of a recipe are written.

    Args:
        loaded: The recipe.
        store_root: The artifact store's folder.

    Raises:
        ConfigError: The address of MLflow cannot be one.
    """
    recipe = loaded.recipe
    return choose_tracking(
        recipe.tracking.uri,
        recipe.tracking.experiment,
        name=recipe.name,
        store_root=store_root,
        resolve=loaded.resolve,
    )
