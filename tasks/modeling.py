"""Tasks on weights: what is trained, and the form that it is released in."""

from __future__ import annotations

from retune.inputs import Inputs
from retune.model_records import AdapterRef, MergedRef, MethodFit, ModelRef
from retune.modeling.methods.adapter_folders import doubt_base
from retune.preflight import stages as preflight
from retune.preflight.training_rows import refuse_unfit_training
from retune.recipe.recipe import Recipe
from retune.recipe.sections.method import MERGEABLE
from retune.records import Side
from retune.training import stages as training
from retune.weights import stages as weights
from tasks.runs.job import Job
from tasks.runs.stage_task import StageTask

put_method_on_meta_model = StageTask(preflight.check_method)
quantize_model = StageTask(weights.quantize_model)
train_adapter = StageTask(training.train_adapter)
train_classifier = StageTask(training.train_classifier)
merge_adapter = StageTask(weights.merge_adapter)
bundle_adapter = StageTask(weights.bundle_adapter)


def check_method(job: Job) -> MethodFit:
    """Refuse a training that model, rows or device cannot take, before anything expensive.

    Args:
        job: Its run, inputs and rows.

    Returns:
        What would be trained.

    Raises:
        ConfigError: The method does not fit the model.
        DataError: Evaluations have nothing to measure on.
    """
    recipe, inputs, chat = job.run.recipe, job.inputs, job.data.chat
    validation = chat.side("validation")
    if job.rows_known:
        refuse_unfit_training(recipe.training, recipe.quantization.kind, validation)
    if inputs.start is not None:
        names = (inputs.base.model_id, recipe.model.id)
        doubt = doubt_base(inputs.start.path, inputs.base.folder, names)
        if doubt:
            job.run.watcher.note(doubt)
    return put_method_on_meta_model(
        job.run,
        base=inputs.base,
        has_head=recipe.head is not None,
        train=chat.side("train"),
        validation=validation,
        test=chat.side("test"),
        writes=_writes_answers(recipe, inputs),
        pairs=job.data.pairs,
        probes=inputs.probes,
        counterfactuals=inputs.counterfactuals,
        template=inputs.template,
        texts=(inputs.reference_text, inputs.general_text),
        start=inputs.start,
    )


def _writes_answers(recipe: Recipe, inputs: Inputs) -> bool:
    """Say whether scoring lets a model answer the held-out prompts, as `score_model` does."""
    by_writing = inputs.has_labels and recipe.scoring.classify_by == "generation"
    samples = inputs.asks_questions and not inputs.has_labels and bool(recipe.scoring.samples)
    return inputs.asks_sql or by_writing or samples or bool(recipe.scoring.text_figures)


def train_model(job: Job, model: ModelRef) -> AdapterRef:
    """Train what the recipe says: an adapter or all weights, to write or to name classes.

    Args:
        job: Its training rows are learned, its validation rows watched.
        model: The model that training starts from.

    Returns:
        What was trained.
    """
    chat, base = job.data.chat, job.inputs.base
    train, validation = chat.side("train"), chat.side("validation")
    if job.run.recipe.head is not None:
        return train_classifier(
            job.run,
            train=train,
            validation=validation,
            base=base,
            model=model,
            labels=job.labels,
        )
    return train_adapter(
        job.run,
        train=train,
        validation=validation,
        base=base,
        model=model,
        start=job.inputs.start,
    )


def make_release(job: Job, adapter: AdapterRef) -> MergedRef:
    """Bring what was trained into the form that it is released in: merged, or beside its base.

    Args:
        job: Its validation rows, or training rows where there are none, are answered before and
            after.
        adapter: What was trained.

    Returns:
        A folder that can be loaded without anything else.
    """
    # By the recipe: while planning, the adapter is not known yet.
    release = merge_adapter if job.run.recipe.method.kind in MERGEABLE else bundle_adapter
    chat = job.data.chat
    # Any rows will do; a recipe without evaluations may hold none back.
    side: Side = "validation" if chat.validation else "train"
    return release(
        job.run,
        adapter=adapter,
        base=job.inputs.base,
        rows=chat.side(side),
        template=job.inputs.template,
    )
