"""Merging what was trained into plain weights, and proving that nothing was lost on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from transformers import AutoConfig

from retune.data.chats.tokenizers import end_token_ids, load_tokenizer
from retune.data.tables import read_rows
from retune.digests import digest_folder
from retune.errors import StageError
from retune.inference.loaded_models import SLOT, LoadedModel, load_parts
from retune.model_records import MergedRef
from retune.modeling.devices import choose_device
from retune.modeling.placement import StagePlaces
from retune.spine.stage import Workdir
from retune.weights.equivalence import Difference, ModelOutputs, compare_outputs, evaluate_outputs
from retune.weights.lent_weights import Names
from retune.weights.merge_task import MergeTask, Written
from retune.weights.merged_weights import NotStreamed, why_not_streamed
from retune.weights.saving import digest_weight, round_to
from retune.weights.stages import MergeInputs, MergeSettings
from retune.weights.stored_weights import open_stored
from retune.weights.streamed_merge import lent, merge_streamed
from retune.weights.whole_merge import merge_whole

_SHOWN = 3


def merge_adapter(inputs: MergeInputs, settings: MergeSettings, work: Workdir) -> MergedRef:
    """Merge, save, load again, and prove each step by itself.

    The merge is into the *unquantized* base, in float32. What the adapter says over that base
    before merging is the reference:

    - merged, and not rounded yet, the model must say the same: logits may differ by what the order
      of additions in float32 does, far less than one lost layer;
    - saved in `merge.dtype` and loaded again, each weight must be the merged one, rounded once, bit
      for bit;
    - what this rounding does to the model must stay within `merge.tolerance`. It is no fault of the
      merge, and a largest logit of millions would not tell the two apart.

    How many answers are the same is recorded; rounding may turn a close call between two tokens.
    Weights that were trained as a whole need no merging: they are rounded, and compared in the same
    way. A model with a classification head becomes a plain sequence classifier, compared by its
    figures per class.

    Args:
        inputs: Adapter, base, rows, and the chat template that is saved with the weights.
        settings: Number type, shard limit, tolerance, how many rows are compared.
        work: The snapshot goes to its artifact folder.

    Returns:
        The merged snapshot and how far it is from the adapter.

    Raises:
        StageError: The adapter cannot be merged, or a step did not give what it had to.
    """
    if not inputs.adapter.mergeable:
        raise StageError(
            f"merge_adapter: {inputs.adapter.folder} was trained by {inputs.adapter.kind}, which "
            "adds inputs or layers that the base does not have, so that it cannot become weights "
            "of the base's shape. Release it beside its base: bundle_adapter."
        )
    SLOT.clear()
    task = _prepare(inputs, settings, work)
    written = _merge(task)
    task.tokenizer.save_pretrained(work.artifact)
    # Two models of this size need not be held at once.
    SLOT.clear()
    after, found, reloaded = _read_again(task)
    difference = compare_outputs(written.before, after)
    _refuse_lost(written.digests, found, difference)
    _refuse_rounding(difference, settings.merge.tolerance, task.dtype)
    merged = MergedRef(
        digest=digest_folder(work.artifact), folder=work.artifact, **difference.figures()
    )
    if reloaded is not None:
        _keep(merged, reloaded)
    return merged


def _prepare(inputs: MergeInputs, settings: MergeSettings, work: Workdir) -> MergeTask:
    merge, base = settings.merge, inputs.base.folder
    tokenizer = load_tokenizer(base, inputs.template)
    placement = StagePlaces.read(work.context).of("merge_adapter").placement
    return MergeTask(
        inputs=inputs,
        tokenizer=tokenizer,
        end_ids=end_token_ids(tokenizer, base),
        rows=read_rows(inputs.rows.folder / "rows.parquet")[: merge.check_rows],
        dtype=_choose_dtype(merge.dtype, base),
        max_shard_size=merge.max_shard_size,
        device=torch.device("cpu") if placement == "cpu" else choose_device(),
        placement=placement,
        work=work,
    )


def _merge(task: MergeTask) -> Written:
    """Merge layer by layer, or as a whole where that is not possible."""
    adapter = task.adapter
    reason = why_not_streamed(adapter) if adapter else None
    if reason is None:
        try:
            return merge_streamed(task)
        except NotStreamed as error:
            reason = str(error)
    task.work.reporter.log(
        f"{adapter} is merged as a whole, which takes memory for all weights in float32: {reason}."
    )
    SLOT.clear()
    return merge_whole(task)


def _keep(merged: MergedRef, reloaded: LoadedModel) -> None:
    """Let the merged model be scored without loading it once more."""
    tokenizer = load_tokenizer(merged.folder)
    end_ids = end_token_ids(tokenizer, merged.folder)
    SLOT.keep(merged.as_scored(), replace(reloaded, tokenizer=tokenizer, end_ids=end_ids))


def _read_again(task: MergeTask) -> tuple[ModelOutputs, dict[str, str], LoadedModel | None]:
    """Load what was written: what it says, its weights' digests, and itself where it is whole."""
    folder = task.work.artifact
    if task.placement == "offloaded":
        model, stored = open_stored(
            folder, scratch=task.work.scratch / "again", tokenizer=task.tokenizer
        )
        names = Names(model)
        with lent(task, model, stored, names) as loaded:
            said = evaluate_outputs(loaded, task.rows, answers=task.answers)
        digests = {
            name: digest_weight(round_to(stored[name], task.dtype)) for name in names.canonical()
        }
        return said, digests, None
    reloaded = load_parts(
        folder,
        None,
        tokenizer=task.tokenizer,
        end_ids=task.end_ids,
        dtype=torch.float32,
        device=task.device,
    )
    weights = reloaded.model.named_parameters()
    digests = {name: digest_weight(round_to(weight, task.dtype)) for name, weight in weights}
    return evaluate_outputs(reloaded, task.rows), digests, reloaded


def _choose_dtype(wanted: str | None, base: Path) -> torch.dtype:
    if wanted is not None:
        return cast(torch.dtype, getattr(torch, wanted))
    config = AutoConfig.from_pretrained(base)
    return cast(torch.dtype, config.dtype or config.get_text_config().dtype or torch.float32)


def _refuse_lost(
    expected: Mapping[str, str], found: Mapping[str, str], difference: Difference
) -> None:
    """Refuse a snapshot that does not hold the weights that were merged."""
    changed = sorted(n for n in {*expected, *found} if expected.get(n) != found.get(n))
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise StageError(
            f"merge_adapter: saved and loaded again, {len(changed)} weights are not those that "
            f"were merged ({', '.join(changed[:_SHOWN])}{more}), and logits differ from the "
            f"adapter's {difference}. Nothing was released. Look at the disk, and run again."
        )


def _refuse_rounding(difference: Difference, tolerance: float, dtype: torch.dtype) -> None:
    if difference.divergence_nats <= tolerance:
        return
    name = str(dtype).removeprefix("torch.")
    raise StageError(
        f"merge_adapter: rounded to {name}, the merged model is "
        f"{difference.divergence_nats:.3g} nats a token more surprised by what the adapter expects "
        f"than the adapter; merge.tolerance allows {tolerance:g}. Its logits differ from the "
        f"adapter's {difference}; {difference.answers_equal} of {difference.rows_checked} answers "
        "are equal. Nothing was released. Write merge.dtype: float32, which rounds nothing, or "
        "raise merge.tolerance."
    )
