"""Tasks on weights: what is trained, and the form that it is released in."""

from __future__ import annotations

from retune.data.prepared import PreparedData
from retune.inputs import Inputs
from retune.records import AdapterRef, MergedRef, ModelRef
from retune.stages import MERGE_ADAPTER, QUANTIZE_MODEL, TRAIN_ADAPTER
from tasks.run import RecipeRun
from tasks.stage_task import StageTask

quantize_model = StageTask(QUANTIZE_MODEL)
train_adapter = StageTask(TRAIN_ADAPTER)
merge_adapter = StageTask(MERGE_ADAPTER)


def train_model(run: RecipeRun, data: PreparedData, source: Inputs, model: ModelRef) -> AdapterRef:
    """Train what the recipe says: an adapter or all weights.

    Args:
        run: The current run.
        data: The rows; training rows are learned, validation rows watched.
        source: What the recipe names.
        model: The model that training starts from.

    Returns:
        What was trained.
    """
    return train_adapter(
        run,
        train=data.chat.side("train"),
        validation=data.chat.side("validation"),
        base=source.base,
        model=model,
    )


def make_release(
    run: RecipeRun, adapter: AdapterRef, data: PreparedData, source: Inputs
) -> MergedRef:
    """Bring what was trained into the form that it is released in.

    Args:
        run: The current run.
        adapter: What was trained.
        data: Its validation rows are answered before and after.
        source: What the recipe names.

    Returns:
        A folder that can be loaded without anything else.
    """
    return merge_adapter(
        run,
        adapter=adapter,
        base=source.base,
        rows=data.chat.side("validation"),
        template=source.template,
    )
