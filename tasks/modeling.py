"""Tasks on weights: what is trained, and the form that it is released in."""

from __future__ import annotations

from typing import Any

from retune.data.prepared import PreparedData
from retune.inputs import Inputs
from retune.modeling.methods.adapter_folders import doubt_base
from retune.recipe.recipe import Recipe
from retune.recipe.sections.method import MERGEABLE
from retune.records import AdapterRef, MergedRef, MethodFit, ModelRef, Side
from retune.stages import (
    BUNDLE_ADAPTER,
    CHECK_METHOD,
    MERGE_ADAPTER,
    QUANTIZE_MODEL,
    TRAIN_ADAPTER,
    TRAIN_CLASSIFIER,
)
from retune.training.refusing import refuse_unfit_training
from tasks.run import RecipeRun
from tasks.scoring import name_labels
from tasks.stage_task import StageTask, is_pending

put_method_on_sketch = StageTask(CHECK_METHOD)
quantize_model = StageTask(QUANTIZE_MODEL)
train_adapter = StageTask(TRAIN_ADAPTER)
train_classifier = StageTask(TRAIN_CLASSIFIER)
merge_adapter = StageTask(MERGE_ADAPTER)
bundle_adapter = StageTask(BUNDLE_ADAPTER)


def check_method(run: RecipeRun, data: PreparedData, source: Inputs) -> MethodFit:
    """Refuse a training that model, rows or device cannot take, before anything expensive.

    Args:
        run: The current run.
        data: The rows.
        source: What the recipe names.

    Returns:
        What would be trained.

    Raises:
        ConfigError: The method does not fit the model.
        DataError: Evaluations have nothing to measure on.
    """
    recipe, validation = run.loaded.recipe, data.chat.side("validation")
    if not is_pending(validation):
        refuse_unfit_training(recipe.training, recipe.quantization.kind, validation)
    if source.start is not None:
        names = (source.base.model_id, recipe.model.id)
        doubt = doubt_base(source.start.path, source.base.folder, names)
        if doubt:
            run.watcher.note(doubt)
    return put_method_on_sketch(
        run,
        base=source.base,
        train=data.chat.side("train"),
        validation=validation,
        test=data.chat.side("test"),
        writes=_writes_answers(recipe, source),
        pairs=data.pairs,
        probes=source.probes,
        counterfactuals=source.counterfactuals,
        template=source.template,
        texts=(source.reference_text, source.general_text),
        start=source.start,
    )


def _writes_answers(recipe: Recipe, source: Inputs) -> bool:
    """Say whether scoring lets a model answer the held-out prompts, as `score_model` does."""
    by_writing = source.has_labels and recipe.scoring.classify_by == "generation"
    samples = source.asks_questions and not source.has_labels and bool(recipe.scoring.samples)
    return source.asks_sql or by_writing or samples


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
    return train_adapter(run, **given, start=source.start)


def make_release(
    run: RecipeRun, adapter: AdapterRef, data: PreparedData, source: Inputs
) -> MergedRef:
    """Bring what was trained into the form that it is released in: merged, or beside its base.

    Args:
        run: The current run.
        adapter: What was trained.
        data: Its validation rows, or training rows where there are none, are answered before and
            after.
        source: What the recipe names.

    Returns:
        A folder that can be loaded without anything else.
    """
    # By the recipe: while planning, the adapter is not known yet.
    release = merge_adapter if run.loaded.recipe.method.kind in MERGEABLE else bundle_adapter
    # Any rows will do; a recipe without evaluations may hold none back.
    side: Side = "validation" if data.chat.validation else "train"
    return release(
        run,
        adapter=adapter,
        base=source.base,
        rows=data.chat.side(side),
        template=source.template,
    )
