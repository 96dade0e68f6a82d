"""Greedy generation in batches: what a prompt gets as answer does not depend on its neighbours.

Prompts are batched by length and padded on the left, generation stops at the end tokens, and only
new tokens are decoded. Weights are float32 on a CPU, where a batch changes a logit by 1e-6 at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import GenerationConfig, PreTrainedModel

from retune.errors import ScoringError
from retune.modeling.loading import LoadedModel
from retune.stopping import STOP

Progress = Callable[[int, int], None]


def generate_answers(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    progress: Progress | None = None,
) -> list[str]:
    """Continue prompts greedily.

    Args:
        loaded: Model and tokenizer.
        prompts: Token ids per prompt.
        max_new_tokens: Most tokens written per prompt.
        batch_size: Prompts per batch; halved for a batch that runs out of memory.
        progress: Told how many prompts are done, and of how many.

    Returns:
        The new text per prompt, in the order of `prompts`, without the end token.

    Raises:
        ScoringError: A prompt is empty, or with its answer longer than the model's context.
    """
    _refuse_unfit(loaded, prompts, max_new_tokens)
    # The longest first: if a batch does not fit into memory, it fails at once, not at the end.
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
    answers = [""] * len(prompts)
    done = 0
    for start in range(0, len(order), batch_size):
        STOP.raise_if_requested()
        batch = order[start : start + batch_size]
        texts = _generate_batch(loaded, [prompts[index] for index in batch], max_new_tokens)
        for index, text in zip(batch, texts, strict=True):
            answers[index] = text
        done += len(batch)
        if progress is not None:
            progress(done, len(order))
    return answers


def _refuse_unfit(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> None:
    limit = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    longest = max((len(prompt) for prompt in prompts), default=0)
    if limit is not None and longest + max_new_tokens > limit:
        raise ScoringError(
            f"the longest prompt has {longest} tokens; with max_new_tokens = {max_new_tokens} that "
            f"is over the model's context of {limit}. Lower scoring.max_new_tokens or shorten the "
            "prompts; nothing is cut silently."
        )
    if any(not len(prompt) for prompt in prompts):
        raise ScoringError("a prompt has no tokens, so there is nothing to continue.")


def _generate_batch(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> list[str]:
    try:
        return _generate(loaded, prompts, max_new_tokens)
    except torch.OutOfMemoryError:
        if len(prompts) == 1:
            raise
        torch.cuda.empty_cache()
    half = len(prompts) // 2
    return _generate_batch(loaded, prompts[:half], max_new_tokens) + _generate_batch(
        loaded, prompts[half:], max_new_tokens
    )


def _generate(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> list[str]:
    pad_id = int(loaded.tokenizer.pad_token_id)
    input_ids, attention_mask = pad_left(prompts, pad_id)
    device = loaded.model.device
    with torch.inference_mode(), _plain_greedy(loaded.model):
        written = loaded.model.generate(
            input_ids=input_ids.to(device),
            attention_mask=attention_mask.to(device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=loaded.end_ids,
            pad_token_id=pad_id,
        )
    new = written[:, input_ids.shape[1] :].tolist()
    return [_decode(loaded, ids) for ids in new]


@contextmanager
def _plain_greedy(model: PreTrainedModel) -> Iterator[None]:
    """Put a snapshot's own generation settings aside.

    Some change greedy answers as well: a repetition penalty (Qwen 2.5 ships one) counts the
    padding too, so that an answer would depend on its neighbours in the batch.
    """
    # peft writes the wrapper's settings into the model that it wraps.
    holders = [model, *([model.get_base_model()] if hasattr(model, "get_base_model") else [])]
    own = [holder.generation_config for holder in holders]
    for holder in holders:
        holder.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for holder, config in zip(holders, own, strict=True):
            holder.generation_config = config


def _decode(loaded: LoadedModel, ids: list[int]) -> str:
    ends = [place for place, token in enumerate(ids) if token in loaded.end_ids]
    kept = ids[: ends[0]] if ends else ids
    return str(loaded.tokenizer.decode(kept, skip_special_tokens=True)).strip()


def pad_left(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad sequences on the left.

    Args:
        sequences: Token ids per row.
        pad_id: Id written into the padding; masked, so that any id does.

    Returns:
        Ids and attention mask, both ``(rows, longest)``.
    """
    longest = max(len(sequence) for sequence in sequences)
    ids = torch.full((len(sequences), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(sequences), longest), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, longest - len(sequence) :] = torch.tensor(list(sequence))
        mask[row, longest - len(sequence) :] = 1
    return ids, mask
