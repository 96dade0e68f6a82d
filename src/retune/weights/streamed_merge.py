"""Merging layer by layer: the base stays in its files, and one shard of the result is held."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel
from transformers import PreTrainedModel

from retune.inference.loaded_models import LoadedModel
from retune.modeling.head_files import HEAD_WEIGHTS, read_labels
from retune.modeling.heads import put_head
from retune.weights.equivalence import ModelOutputs, compare_outputs, evaluate_outputs
from retune.weights.lent_weights import Names, find_slots, lent_by_layer, lent_whole
from retune.weights.merge_task import MergeTask, Written, refuse_unmerged, refuse_wrong_merge
from retune.weights.merged_weights import MergedWeights, put_adapter_unfilled
from retune.weights.saving import HeldOver, emptied, save_streamed
from retune.weights.stored_weights import Weights, open_stored


def merge_streamed(task: MergeTask) -> Written:
    """Merge an adapter into the files of its base, and write the result shard by shard.

    Args:
        task: What is merged.

    Returns:
        What the model said before, and digests of what was written.

    Raises:
        NotStreamed: It has to be merged as a whole; nothing was written.
        StageError: A weight is not finite, or the merged model says something else.
    """
    model, base = open_stored(
        task.weights,
        scratch=task.work.scratch / "converted",
        tokenizer=task.tokenizer,
        head_of=task.adapter,
    )
    names = Names(model)
    plain = copy.deepcopy(model)
    emptied(plain)
    if task.adapter is None:
        return Written(_ask(task, model, base, names)[0], _save(task, plain, base))
    if (task.adapter / HEAD_WEIGHTS).is_file():
        put_head(model, task.adapter)
        held = HeldOver(model, base)
        return Written(_ask(task, model, base, names)[0], _save(task, plain, held))
    adapted = put_adapter_unfilled(model, task.adapter)
    try:
        merged = MergedWeights(adapted, names, base)
        before, effect = _ask(task, adapted, base, names)
        return Written(before, _prove_and_save(task, plain, merged, before, effect))
    except ValueError as error:
        raise refuse_unmerged(error) from error


def _ask(
    task: MergeTask, model: PreTrainedModel | PeftModel, base: Weights, names: Names
) -> tuple[ModelOutputs, float]:
    """Return what a model says, and by how much its adapter moves a logit at most."""
    with lent(task, model, base, names) as loaded:
        before = evaluate_outputs(loaded, task.rows, answers=task.answers)
        if not isinstance(model, PeftModel):
            return before, 0.0
        with model.disable_adapter():
            without = evaluate_outputs(loaded, task.rows, answers="none")
    return before, compare_outputs(before, without).max_logit_difference


@contextmanager
def lent(
    task: MergeTask, model: PreTrainedModel | PeftModel, weights: Weights, names: Names
) -> Iterator[LoadedModel]:
    """Give a model its weights inside the block, whole or layer by layer.

    Args:
        task: Where models are held, and what they are asked.
        model: Without values, but for what was put on it.
        weights: By name.
        names: Of the model before anything was put on it.
    """
    lend = lent_by_layer if task.placement == "offloaded" else lent_whole
    labels = read_labels(task.adapter or task.weights)
    with lend(model, find_slots(model, names), weights, task.device):
        yield LoadedModel(model, task.tokenizer, task.end_ids, labels)


def _prove_and_save(
    task: MergeTask,
    plain: PreTrainedModel,
    merged: Weights,
    before: ModelOutputs,
    effect: float,
) -> dict[str, str]:
    """Compare what is merged in float32 with the adapter over its base, and write it."""
    with lent(task, plain, merged, Names(plain)) as loaded:
        exact = compare_outputs(before, evaluate_outputs(loaded, task.rows, answers="none"))
        if task.placement != "offloaded":
            # They are here: there is no need to merge them again.
            merged = {name: weight.data for name, weight in plain.named_parameters()}
    refuse_wrong_merge(exact, effect)
    return _save(task, plain, merged)


def _save(task: MergeTask, plain: PreTrainedModel, weights: Weights) -> dict[str, str]:
    return save_streamed(
        plain, weights, task.work.artifact, dtype=task.dtype, max_shard_size=task.max_shard_size
    )
