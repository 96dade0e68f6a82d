"""Merging what was trained into plain weights, and proving that nothing was lost on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import AutoConfig, PreTrainedModel

from retune.data.chats.tokenizers import Tokenizer, end_token_ids, load_tokenizer
from retune.data.tables import read_rows
from retune.digests import digest_folder
from retune.errors import StageError
from retune.inference.loaded_models import SLOT, LoadedModel, load_parts
from retune.modeling.devices import choose_device
from retune.recipe.sections import MergeConfig
from retune.records import MergedRef
from retune.spine.stage import Workdir
from retune.weights.equivalence import Difference, ModelOutputs, compare_outputs, evaluate_outputs
from retune.weights.stages import MergeInputs, MergeSettings

_NOISE = 1e-4
"""Largest difference of a logit that the order of additions makes in float32, as a part of their
spread."""
_NOISE_OF_EFFECT = 1e-3
"""The same as a part of what the adapter changes: where that is large, so are its sums. One of a
thousand layers that is lost is about as much."""
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
    device, merge = choose_device(), settings.merge
    tokenizer = load_tokenizer(inputs.base.folder, inputs.template)
    end_ids = end_token_ids(tokenizer, inputs.base.folder)
    rows = read_rows(inputs.rows.folder / "rows.parquet")[: merge.check_rows]
    adapted = _load_trained(inputs, tokenizer, end_ids, device)
    before = evaluate_outputs(adapted, rows)
    dtype = _choose_dtype(merge.dtype, inputs.base.folder)
    expected = _merge_and_save(adapted, before, rows, dtype, work, merge)
    tokenizer.save_pretrained(work.artifact)
    # Two models of this size need not be held at once.
    del adapted
    SLOT.clear()
    reloaded = load_parts(
        work.artifact,
        None,
        tokenizer=tokenizer,
        end_ids=end_ids,
        dtype=torch.float32,
        device=device,
    )
    difference = compare_outputs(before, evaluate_outputs(reloaded, rows))
    _refuse_lost(expected, _digest_weights(reloaded.model, dtype), difference)
    _refuse_rounding(difference, merge.tolerance, dtype)
    return MergedRef(
        digest=digest_folder(work.artifact), folder=work.artifact, **difference.figures()
    )


def _merge_and_save(
    adapted: LoadedModel,
    before: ModelOutputs,
    rows: Sequence[Mapping[str, Any]],
    dtype: torch.dtype,
    work: Workdir,
    settings: MergeConfig,
) -> dict[str, str]:
    """Merge, compare what was merged in float32, round and save.

    Returns:
        Digests of the weights as they were saved.
    """
    effect = _measure_effect(adapted, before, rows)
    merged = _merge(adapted.model)
    exact = compare_outputs(
        before, evaluate_outputs(replace(adapted, model=merged), rows, answers=False)
    )
    _refuse_wrong_merge(exact, effect)
    merged.to(dtype)
    merged.config.dtype = dtype
    expected = _digest_weights(merged, dtype)
    _save_merged(merged, work.artifact, settings.max_shard_size)
    return expected


def _load_trained(
    inputs: MergeInputs, tokenizer: Tokenizer, end_ids: list[int], device: torch.device
) -> LoadedModel:
    whole = inputs.adapter.kind == "full"
    return load_parts(
        inputs.adapter.folder if whole else inputs.base.folder,
        None if whole else inputs.adapter.folder,
        tokenizer=tokenizer,
        end_ids=end_ids,
        dtype=torch.float32,
        device=device,
        plain=True,
    )


def _measure_effect(
    adapted: LoadedModel, before: ModelOutputs, rows: Sequence[Mapping[str, Any]]
) -> float:
    """Return by how much the adapter moves a logit at most: what a merge has to bring in."""
    if not isinstance(adapted.model, PeftModel):
        return 0.0
    with adapted.model.disable_adapter():
        without = evaluate_outputs(adapted, rows, answers=False)
    return compare_outputs(before, without).max_logit_difference


def _merge(adapted: PreTrainedModel) -> PreTrainedModel:
    if not isinstance(adapted, PeftModel):
        return adapted
    try:
        return cast(PreTrainedModel, adapted.merge_and_unload(safe_merge=True))
    except ValueError as error:
        raise StageError(
            f"merge_adapter: the adapter cannot be merged ({error}). Nothing was released. Train "
            "it again; a lower training.learning_rate keeps weights finite."
        ) from error


def _choose_dtype(wanted: str | None, base: Path) -> torch.dtype:
    if wanted is not None:
        return cast(torch.dtype, getattr(torch, wanted))
    config = AutoConfig.from_pretrained(base)
    return cast(torch.dtype, config.dtype or config.get_text_config().dtype or torch.float32)


def _save_merged(merged: PreTrainedModel, target: Path, max_shard_size: str) -> None:
    merged.save_pretrained(target, max_shard_size=max_shard_size)


def _digest_weights(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, str]:
    """Return the digest of each weight in a number type; nothing but one weight is copied."""
    return {
        name: hashlib.sha256(
            weight.detach()
            .to("cpu", dtype if weight.is_floating_point() else weight.dtype)
            .contiguous()
            .view(-1)
            .view(torch.uint8)
            .numpy()
            .data
        ).hexdigest()
        for name, weight in model.state_dict().items()
    }


def _refuse_wrong_merge(difference: Difference, effect: float) -> None:
    """Refuse a merge that does not do what the adapter does, before anything is rounded."""
    allowed = max(_NOISE * difference.logit_spread, _NOISE_OF_EFFECT * effect)
    if difference.max_logit_difference <= allowed:
        return
    raise StageError(
        f"merge_adapter: merged in float32, before any rounding, the model's logits differ from "
        f"the adapter's {difference}; expected at most {allowed:.3g}, where the adapter as a whole "
        f"moves them by up to {effect:.3g}. Nothing was released. A part of the adapter was lost "
        "or scaled otherwise: take out of method what is special (dora, target_parameters, "
        "modules_to_save, trainable_tokens), and report it with the method's settings."
    )


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
