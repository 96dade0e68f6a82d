"""Opening a run of a recipe: recipe and services, checked before any work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from prefect.runtime import flow_run

from retune.clusters import expect_training_cluster
from retune.preflight.devices import TRAINING_CLUSTER
from retune.recipe.loading import LoadedRecipe, load_recipe
from retune.registry.ledger.ledger import LEDGERS
from retune.retraining.clock import write_moment
from retune.spine.opening import open_recipe_store
from retune.spine.process import StageProcess
from retune.spine.store import Store
from retune.tracking import Tracking, choose_tracking, default_artifact_root
from retune.tracking.left_runs import FLOW_RUN_TAG
from tasks.runs.prefect_api import PrefectApi, choose_patience
from tasks.runs.run import RecipeRun, TrackedRun, open_run, stage_log
from tasks.runs.watchers import current_watcher


@contextmanager
def open_recipe(
    recipe: Path,
    overrides: Sequence[str],
    *,
    tracked: bool = True,
    at: datetime | None = None,
) -> Iterator[RecipeRun]:
    """Open a run that computes: recipe read, store and MLflow answering.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.
        tracked: Whether MLflow shows the run.
        at: The time that it is taken to be; None for now. What the registry writes down has it.

    Yields:
        The run.

    Raises:
        ConfigError: The recipe is wrong, or Ray is asked for and not installed.
        ArtifactError: The store cannot be written.
        ServiceError: MLflow does not answer, or the cluster that trains.
    """
    loaded = load_recipe(recipe, overrides)
    shown = TrackedRun(
        name=loaded.recipe.name,
        tags={"retune.recipe": loaded.path.name, **_prefect_tags()},
        params=loaded.recipe.model_dump(mode="json"),
    )
    prepared = prepare_run(loaded)
    if tracked:
        expect_training_cluster(loaded.recipe.training_cluster)
    known = {"prefect_flow_run": str(flow_run.id)} if flow_run.id else {}
    known |= {"at": write_moment(at)} if at else {}
    prepared = replace(prepared, context={**prepared.context, **known})
    with open_run(prepared, shown if tracked else None) as run:
        yield run


def _prefect_tags() -> dict[str, str]:
    """Return the tags that lead from MLflow to Prefect's flow run."""
    if flow_run.id is None:
        return {}
    tags = {FLOW_RUN_TAG: str(flow_run.id), "prefect.flow_run_name": flow_run.name}
    shown = flow_run.ui_url
    # Prefect writes None where it knows no address of its UI.
    return tags | ({"prefect.flow_run_url": shown} if shown.startswith("http") else {})


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
    store, watcher = open_recipe_store(loaded), current_watcher()
    shown = loaded.recipe.tracking
    tracking, cluster = track(loaded, store), loaded.recipe.training_cluster
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
        prefect=PrefectApi(
            needed=shown.on_prefect_lost == "stop",
            patience=choose_patience(shown.prefect_patience_seconds),
        ),
        context={
            "tracking_uri": tracking.uri,
            "artifact_root": default_artifact_root(store.root),
            "experiment": tracking.experiment,
            "ledgers": str(store.root / LEDGERS),
            **({TRAINING_CLUSTER: cluster} if cluster else {}),
        },
    )


def track(loaded: LoadedRecipe, store: Store) -> Tracking:
    """Return where runs of a recipe are written.

    Args:
        loaded: The recipe.
        store: The store that the recipe names.

    Raises:
        ConfigError: The address of MLflow cannot be one.
    """
    recipe = loaded.recipe
    return choose_tracking(
        recipe.tracking.uri,
        recipe.tracking.experiment,
        name=recipe.name,
        store_root=store.root,
        resolve=loaded.resolve,
        shared=store.address if store.caches else None,
    )
