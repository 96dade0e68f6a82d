"""Merging what was trained into plain weights, and proving that nothing was lost on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from transformers import AutoConfig, PreTrainedModel

from retune.data.tables import read_rows
from retune.data.tokenizers import end_token_ids, load_tokenizer
from retune.digests import digest_folder
from retune.errors import StageError
from retune.modeling.devices import choose_device
from retune.modeling.loading import SLOT, LoadedModel, load_causal_model, put_adapter
from retune.records import MergedRef
from retune.requests import MergeInputs, MergeSection
from retune.scoring.generation import generate_answers, pad_left
from retune.stage import Workdir

_MAX_CHECK_TOKENS = 64


@dataclass(frozen=True)
class _View:
    """What a model says to the checked rows: logits at answer positions, and greedy answers."""

    logits: torch.Tensor
    answers: list[str]


def merge_adapter(inputs: MergeInputs, section: MergeSection, work: Workdir) -> MergedRef:
    """Merge, save, load again and compare with what was trained, over the same base.

    The merge is into the *unquantized* base, in float32, saved in the base's own dtype. What the
    adapter says over that base before merging is the reference: the reloaded snapshot must give
    the same logits within the tolerance. How many answers are the same is recorded; rounding to
    the base's dtype may turn a close call between two tokens. Weights that were trained as a whole
    need no merging: they are saved in the base's dtype, and compared in the same way.

    Args:
        inputs: Adapter, base, rows, and the chat template that is saved with the weights.
        section: Shard limit, tolerance, how many rows are compared.
        work: The snapshot goes to its artifact folder.

    Returns:
        The merged snapshot and how far it is from the adapter.

    Raises:
        StageError: The difference is over the tolerance.
    """
    SLOT.clear()
    device = choose_device()
    tokenizer = load_tokenizer(inputs.base.folder, inputs.template)
    end_ids = end_token_ids(tokenizer, inputs.base.folder)
    rows = read_rows(inputs.rows.folder / "rows.parquet")[: section.merge.check_rows]
    adapted = _load_trained(inputs, device)
    before = _look(LoadedModel(adapted, tokenizer, end_ids), rows)
    _save_merged(adapted, inputs.base.folder, work.artifact, section.merge.max_shard_size)
    tokenizer.save_pretrained(work.artifact)
    # Two models of this size need not be held at once.
    del adapted
    SLOT.clear()
    reloaded = load_causal_model(work.artifact, dtype=torch.float32, device=device)
    after = _look(LoadedModel(reloaded, tokenizer, end_ids), rows)
    difference = float((before.logits - after.logits).abs().max())
    spread = float(before.logits.std())
    equal = sum(a == b for a, b in zip(before.answers, after.answers, strict=True))
    # So written that NaN, which is larger than nothing, is refused too.
    if not difference <= section.merge.tolerance * spread:
        raise StageError(
            f"merge_adapter: the merged model's logits differ from the adapter's by up to "
            f"{difference:.3g}, {difference / spread:.1%} of their spread {spread:.3g}; "
            f"merge.tolerance allows {section.merge.tolerance:.1%}. {equal} of {len(rows)} answers "
            "are equal. Nothing was released. Merge in a wider dtype or raise merge.tolerance."
        )
    return MergedRef(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        rows_checked=len(rows),
        max_logit_difference=difference,
        logit_spread=spread,
        answers_equal=equal,
    )


def _load_trained(inputs: MergeInputs, device: torch.device) -> PreTrainedModel:
    if inputs.adapter.kind == "full":
        return load_causal_model(inputs.adapter.folder, dtype=torch.float32, device=device)
    base = load_causal_model(inputs.base.folder, dtype=torch.float32, device=device)
    return put_adapter(base, inputs.adapter.folder)


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


def _look(loaded: LoadedModel, rows: list[dict[str, list[int]]]) -> _View:
    pairs = [(row["prompt_ids"], row["answer_ids"]) for row in rows]
    ids, mask = pad_left([[*prompt, *answer] for prompt, answer in pairs], 0)
    longest = max(len(answer) for _, answer in pairs)
    with torch.inference_mode():
        logits = loaded.model(
            input_ids=ids.to(loaded.model.device),
            attention_mask=mask.to(loaded.model.device),
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0).to(loaded.model.device),
            logits_to_keep=longest,
            use_cache=False,
        ).logits
    kept = [logits[row, -len(answer) :] for row, (_, answer) in enumerate(pairs)]
    answers = generate_answers(
        loaded,
        [prompt for prompt, _ in pairs],
        max_new_tokens=min(_MAX_CHECK_TOKENS, longest + 8),
        batch_size=len(pairs),
    )
    return _View(torch.cat(kept).float().cpu(), answers)
