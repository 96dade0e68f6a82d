"""Tasks on weights: what is trained, and the form that it is released in."""

from __future__ import annotations

from typing import Any

from retune.data.prepared import PreparedData
from retune.inputs import Inputs
from retune.recipe.sections.method import MERGEABLE
from retune.records import AdapterRef, MergedRef, ModelRef
from retune.stages import (
    BUNDLE_ADAPTER,
    MERGE_ADAPTER,
    QUANTIZE_MODEL,
    TRAIN_ADAPTER,
    TRAIN_CLASSIFIER,
)
from tasks.run import RecipeRun
from tasks.scoring import name_labels
from tasks.stage_task import StageTask

quantize_model = StageTask(QUANTIZE_MODEL)
train_adapter = StageTask(TRAIN_ADAPTER)
train_classifier = StageTask(TRAIN_CLASSIFIER)
merge_adapter = StageTask(MERGE_ADAPTER)
bundle_adapter = StageTask(BUNDLE_ADAPTER)


def train_model(run: RecipeRun, data: PreparedData, source: Inputs, model: ModelRef) -> AdapterRef:
    """Train what the recipe says: an adapter or all weights, to write or to name classes.

    Args:
        run: The current run.
        data: The rows; training rows are learned, validation rows watched.
        source: What the recipe names.
        model: The model that training starts from.

    Returns:
        What was trained.
    """
    given: dict[str, Any] = {
        "train": data.chat.side("train"),
        "validation": data.chat.side("validation"),
        "base": source.base,
        "model": model,
    }
    if run.loaded.recipe.head is not None:
        return train_classifier(run, **given, labels=name_labels(data))
    return train_adapter(run, **given)


def make_release(
    run: RecipeRun, adapter: AdapterRef, data: PreparedData, source: Inputs
) -> MergedRef:
    """Bring what was trained into the form that it is released in: merged, or beside its base.

    Args:
        run: The current run.
        adapter: What was trained.
        data: Its validation rows are answered before and after.
        source: What the recipe names.

    Returns:
        A folder that can be loaded without anything else.
    """
    # By the recipe: while planning, the adapter is not known yet.
    release = merge_adapter if run.loaded.recipe.method.kind in MERGEABLE else bundle_adapter
    return release(
        run,
        adapter=adapter,
        base=source.base,
        rows=data.chat.side("validation"),
        template=source.template,
    )
