"""Tasks on what is trained after supervised fine-tuning: preferences, then rewards."""

from __future__ import annotations

from retune.data.prepared import PreparedData
from retune.inputs import Inputs
from retune.records import AdapterRef, ChatRef, ModelRef, PairsRef
from retune.stages import FORMAT_PAIRS, TRAIN_PREFERENCES, TRAIN_REWARDS
from tasks.run import RecipeRun
from tasks.stage_task import StageTask

format_pairs = StageTask(FORMAT_PAIRS)
train_preferences = StageTask(TRAIN_PREFERENCES)
train_rewards = StageTask(TRAIN_REWARDS)


def prepare_pairs(run: RecipeRun, source: Inputs, chat: ChatRef) -> PairsRef | None:
    """Write the pairs of answers as token ids, where the recipe names some.

    Args:
        run: The current run.
        source: What the recipe names.
        chat: The sides; no pair may ask what the test side asks.

    Returns:
        The pairs; None where the recipe has no `dpo`.
    """
    if source.pairs is None:
        return None
    return format_pairs(
        run,
        pairs=source.pairs,
        base=source.base,
        template=source.template,
        held_out=chat.side("test"),
        encoding=run.loaded.recipe.data.encoding,
    )


def align_model(
    run: RecipeRun, adapter: AdapterRef, data: PreparedData, source: Inputs, model: ModelRef
) -> AdapterRef:
    """Train further what the recipe says: by preferences, then by rewards, or not at all.

    Args:
        run: The current run.
        adapter: What supervised fine-tuning trained.
        data: Pairs of answers, and the training rows that answers are written to.
        source: What the recipe names.
        model: The model that was trained over.

    Returns:
        What was trained last, of the same kind.
    """
    if data.pairs is not None:
        adapter = train_preferences(
            run, pairs=data.pairs, adapter=adapter, base=source.base, model=model
        )
    if run.loaded.recipe.grpo is not None:
        adapter = train_rewards(
            run, train=data.chat.side("train"), adapter=adapter, base=source.base, model=model
        )
    return adapter
