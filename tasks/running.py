"""Opening a run of the flow `finetune`: recipe and services, checked before any work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from retune.recipe.loading import LoadedRecipe, load_recipe
from retune.stage_process import StageProcess
from retune.store import Store, check_writable
from retune.tracking import (
    Mirror,
    RunStatus,
    Tracking,
    check_tracking,
    choose_tracking,
    default_artifact_root,
)
from tasks.run import RecipeRun, open_run, stage_log
from tasks.watchers import current_watcher


@contextmanager
def finetune_run(recipe: Path, overrides: Sequence[str]) -> Iterator[RecipeRun]:
    """Open a run that computes: recipe read, MLflow answering, parent run started.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.

    Yields:
        The run.

    Raises:
        ConfigError: The recipe is wrong.
        ArtifactError: The store cannot be written.
        ServiceError: MLflow does not answer.
    """
    run = prepare_run(load_recipe(recipe, overrides))
    check_writable(run.store.root)
    check_tracking(run.context["tracking_uri"])
    mirror = Mirror(
        run.context["tracking_uri"],
        run.context["experiment"],
        artifact_root=run.context["artifact_root"],
        store_root=run.store.root,
    )
    run.mirror = mirror
    settings = run.loaded.recipe
    run.parent_run = mirror.open_parent(settings.name, {"retune.recipe": str(run.loaded.path.name)})
    run.context["run_id"] = run.parent_run
    mirror.params(run.parent_run, settings.model_dump(mode="json"))
    status: RunStatus = "FAILED"
    try:
        with open_run(run):
            yield run
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        mirror.close(run.parent_run, status)
        for warning in mirror.warnings:
            run.watcher.note(warning)


def prepare_run(
    loaded: LoadedRecipe, *, planning: bool = False, direct: bool = False, told: bool = False
) -> RecipeRun:
    """Build a run from a loaded recipe, without touching any service.

    Args:
        loaded: The recipe.
        planning: Whether stages are only looked up.
        direct: Whether stages run right here, without Prefect.
        told: Whether the notes on the recipe and on its surroundings were shown already.

    Returns:
        The run.

    Raises:
        ConfigError: The address of MLflow cannot be one.
    """
    store = Store(loaded.resolve(loaded.recipe.store.folder))
    watcher = current_watcher()
    tracking = track(loaded, store.root)
    for note in () if told else (*loaded.notes, *tracking.notes):
        watcher.note(note)
    context = {
        "tracking_uri": tracking.uri,
        "artifact_root": default_artifact_root(store.root),
        "experiment": tracking.experiment,
    }
    return RecipeRun(
        name=loaded.recipe.name,
        settings=loaded.recipe,
        loaded=loaded,
        store=store,
        process=StageProcess(stage_log(store)),
        watcher=watcher,
        planning=planning,
        direct=direct,
        context=context,
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
