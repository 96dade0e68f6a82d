"""Opening a run of the flow `pretrain`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retune.embedded.settings import RebuildRecipe
from retune.stage_process import StageProcess
from retune.store import Store
from tasks.run import Run, open_run, stage_log
from tasks.watchers import current_watcher


@contextmanager
def rebuild_run(store: Path, recipe: RebuildRecipe) -> Iterator[Run]:
    """Open a run without a recipe file and without MLflow.

    Args:
        store: Folder of the artifact store.
        recipe: Settings.

    Yields:
        The run.
    """
    place = Store(store)
    run = Run(
        name="pretrain",
        settings=recipe,
        store=place,
        process=StageProcess(stage_log(place)),
        watcher=current_watcher(),
    )
    with open_run(run):
        yield run
