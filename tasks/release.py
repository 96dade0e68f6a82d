"""Tasks that let a model out, and the champion that it has to beat."""

from __future__ import annotations

from retune.records import ChampionRef, MergedRef
from retune.registry import find_opponent
from retune.stages import DECIDE, REGISTER_MODEL
from tasks.run import RecipeRun
from tasks.stage_task import StageTask, is_pending

decide = StageTask(DECIDE)
register_model = StageTask(REGISTER_MODEL)


def find_champion(run: RecipeRun, merged: MergedRef) -> ChampionRef | None:
    """Return the registered version that the merged model has to beat, or None.

    Args:
        run: The current run.
        merged: The challenger. When it is the champion itself, the one that it beat is returned,
            so that a reused run asks the same question as the run that it reuses.
    """
    # A merged model that a plan cannot know yet is no registered one.
    digest = "" if is_pending(merged) else merged.digest
    return find_opponent(
        run.context["tracking_uri"],
        run.loaded.recipe.registry.model_name,
        digest,
        cache_folder=run.store.root / "champions",
    )
