"""Tasks on what is trained after supervised fine-tuning: preferences, then rewards."""

from __future__ import annotations

from retune.data import stages as data
from retune.inputs import Inputs
from retune.model_records import AdapterRef, ModelRef
from retune.records import ChatRef, PairsRef
from retune.training import stages as training
from tasks.runs.job import Job
from tasks.runs.run import RecipeRun
from tasks.runs.stage_task import StageTask

format_pairs = StageTask(data.format_pairs)
train_preferences = StageTask(training.train_preferences)
train_rewards = StageTask(training.train_rewards)


def prepare_pairs(run: RecipeRun, inputs: Inputs, chat: ChatRef) -> PairsRef | None:
    """Write the pairs of answers as token ids, where the recipe names some.

    Args:
        run: The current run.
        inputs: What the recipe names.
        chat: The sides; no pair may ask what the test side asks.

    Returns:
        The pairs; None where the recipe has no `dpo`.
    """
    if inputs.pairs is None:
        return None
    return format_pairs(
        run,
        pairs=inputs.pairs,
        base=inputs.base,
        template=inputs.template,
        held_out=chat.side("test"),
        encoding=run.recipe.data.encoding,
    )


def align_model(job: Job, adapter: AdapterRef, model: ModelRef) -> AdapterRef:
    """Train further what the recipe says: by preferences, then by rewards, or not at all.

    Args:
        job: Its pairs of answers are learned from, and answers to its training rows are written.
        adapter: What supervised fine-tuning trained.
        model: The model that was trained over.

    Returns:
        What was trained last, of the same kind.
    """
    run, base, data = job.run, job.inputs.base, job.data
    if data.pairs is not None:
        adapter = train_preferences(run, pairs=data.pairs, adapter=adapter, base=base, model=model)
    if run.recipe.grpo is not None:
        adapter = train_rewards(
            run, train=data.chat.side("train"), adapter=adapter, base=base, model=model
        )
    return adapter
