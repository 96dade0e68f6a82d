"""The flow `pretrain`: rebuilds the embedded datasets, tokenizer and base.

Run it with ``make base``. It takes about an hour on two cores; killed, it goes on.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from generator import stages
from generator.exporting import export_assets
from generator.settings import RebuildRecipe
from retune.spine.process import StageProcess
from retune.spine.store import Store
from tasks.runs.run import Run, open_run, stage_log
from tasks.runs.stage_task import StageTask
from tasks.runs.watchers import current_watcher

draw_task = StageTask(stages.draw_task)
draw_small_sets = StageTask(stages.draw_small_sets)
train_tokenizer = StageTask(stages.train_tokenizer)
pretrain_base = StageTask(stages.pretrain_base)
continue_base = StageTask(stages.continue_base)


@flow(name="pretrain", persist_result=False)
def pretrain(
    assets: Path = Path("assets"),
    store: Path = Path(".retune"),
    recipe: RebuildRecipe | None = None,
) -> dict[str, float]:
    """Rebuild everything that ships in `assets/`.

    Args:
        assets: Folder that is written.
        store: Folder of the artifact store.
        recipe: Settings; the defaults made what ships.

    Returns:
        The base's figures.

    Raises:
        RetuneError: A stage failed.
    """
    with open_run(_prepare_run(Store(store), recipe or RebuildRecipe())) as run:
        task = draw_task(run)
        small = draw_small_sets(run)
        tokenizer = train_tokenizer(run)
        taught = pretrain_base(run, task=task, tokenizer=tokenizer)
        base = continue_base(run, task=task, base=taught)
        export_assets(assets, task, small, base)
        return {
            "parameters": base.parameters,
            "steps": base.steps,
            "english_exact_match": base.english_exact_match,
        }


def _prepare_run(store: Store, recipe: RebuildRecipe) -> Run:
    """Build a run without a recipe file and without MLflow."""
    return Run(
        name="pretrain",
        settings=recipe,
        store=store,
        process=StageProcess(stage_log(store), table="generator.stages:STAGES"),
        watcher=current_watcher(),
    )
