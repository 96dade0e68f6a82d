"""Merging a model that is held as a whole, for what cannot be merged layer by layer."""

from __future__ import annotations

from dataclasses import replace

import torch
from peft import PeftModel

from retune.inference.loaded_models import load_parts
from retune.weights.equivalence import compare_outputs, evaluate_outputs
from retune.weights.merge_task import MergeTask, Written, refuse_unmerged, refuse_wrong_merge
from retune.weights.saving import digest_weight


def merge_whole(task: MergeTask) -> Written:
    """Load a base and its adapter, merge all layers, and write the result.

    Args:
        task: What is merged; with layers offloaded it is held on the CPU.

    Returns:
        What the model said before, and digests of what was written.

    Raises:
        StageError: A weight is not finite, or the merged model says something else.
    """
    cpu = task.placement != "device"
    adapted = load_parts(
        task.weights,
        task.adapter,
        tokenizer=task.tokenizer,
        end_ids=task.end_ids,
        dtype=torch.float32,
        device=torch.device("cpu") if cpu else task.device,
        plain=True,
    )
    before = evaluate_outputs(adapted, task.rows, answers=task.answers)
    merged = adapted.model
    if isinstance(merged, PeftModel):
        with merged.disable_adapter():
            without = evaluate_outputs(adapted, task.rows, answers="none")
        try:
            merged = merged.merge_and_unload(safe_merge=True)
        except ValueError as error:
            raise refuse_unmerged(error) from error
        said = evaluate_outputs(replace(adapted, model=merged), task.rows, answers="none")
        effect = compare_outputs(before, without).max_logit_difference
        refuse_wrong_merge(compare_outputs(before, said), effect)
    merged.to(task.dtype)
    merged.config.dtype = task.dtype
    digests = {name: digest_weight(weight.cpu()) for name, weight in merged.named_parameters()}
    merged.save_pretrained(task.work.artifact, max_shard_size=task.max_shard_size)
    return Written(before, digests)
