"""The flow `pretrain`: rebuilds the embedded datasets, tokenizer and base from their generator.

Run it with ``make base``. It takes about an hour on two cores; killed, it goes on.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from retune.embedded.settings import RebuildRecipe
from tasks.embedded import (
    continue_base,
    draw_small_sets,
    draw_task,
    export_assets,
    pretrain_base,
    train_tokenizer,
)
from tasks.rebuilding import rebuild_run


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
    with rebuild_run(store, recipe or RebuildRecipe()) as run:
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


if __name__ == "__main__":
    print(pretrain())
