"""Merging what was trained into plain weights, and proving that nothing was lost on the way."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from transformers import AutoConfig, PreTrainedModel

from retune.data.tables import read_rows
from retune.data.tokenizers import Tokenizer, end_token_ids, load_tokenizer
from retune.digests import digest_folder
from retune.errors import StageError
from retune.modeling.devices import choose_device
from retune.modeling.loading import SLOT, LoadedModel, load_parts
from retune.modeling.views import compare_views, look
from retune.records import MergedRef
from retune.requests import MergeInputs, MergeSection
from retune.stage import Workdir


def merge_adapter(inputs: MergeInputs, section: MergeSection, work: Workdir) -> MergedRef:
    """Merge, save, load again and compare with what was trained, over the same base.

    The merge is into the *unquantized* base, in float32, saved in the base's own dtype. What the
    adapter says over that base before merging is the reference: the reloaded snapshot must give
    the same logits within the tolerance. How many answers are the same is recorded; rounding to
    the base's dtype may turn a close call between two tokens. Weights that were trained as a whole
    need no merging: they are saved in the base's dtype, and compared in the same way. A model with
    a classification head becomes a plain sequence classifier, compared by its figures per class.

    Args:
        inputs: Adapter, base, rows, and the chat template that is saved with the weights.
        section: Shard limit, tolerance, how many rows are compared.
        work: The snapshot goes to its artifact folder.

    Returns:
        The merged snapshot and how far it is from the adapter.

    Raises:
        StageError: The adapter cannot be merged, or the difference is over the tolerance.
    """
    if not inputs.adapter.mergeable:
        raise StageError(
            f"merge_adapter: {inputs.adapter.folder} was trained by {inputs.adapter.kind}, which "
            "adds inputs or layers that the base does not have, so that it cannot become weights "
            "of the base's shape. Release it beside its base: bundle_adapter."
        )
    SLOT.clear()
    device = choose_device()
    tokenizer = load_tokenizer(inputs.base.folder, inputs.template)
    end_ids = end_token_ids(tokenizer, inputs.base.folder)
    rows = read_rows(inputs.rows.folder / "rows.parquet")[: section.merge.check_rows]
    adapted = _load_trained(inputs, tokenizer, end_ids, device)
    before = look(adapted, rows)
    _save_merged(adapted.model, inputs.base.folder, work.artifact, section.merge.max_shard_size)
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
    difference = compare_views(before, look(reloaded, rows))
    if not difference.within(section.merge.tolerance):
        raise StageError(
            f"merge_adapter: the merged model's logits differ from the adapter's {difference}; "
            f"merge.tolerance allows {section.merge.tolerance:.1%}. {difference.answers_equal} of "
            f"{len(rows)} answers are equal. Nothing was released. Merge in a wider dtype or raise "
            "merge.tolerance."
        )
    return MergedRef(
        digest=digest_folder(work.artifact), folder=work.artifact, **difference.figures()
    )


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


def _save_merged(
    adapted: PreTrainedModel, base_folder: Path, target: Path, max_shard_size: str
) -> None:
    from peft import PeftModel

    merged = adapted
    if isinstance(adapted, PeftModel):
        merged = cast(PreTrainedModel, adapted.merge_and_unload(safe_merge=True))
    dtype = AutoConfig.from_pretrained(base_folder).dtype or torch.float32
    merged.to(dtype)
    merged.config.dtype = dtype
    merged.save_pretrained(target, max_shard_size=max_shard_size)
