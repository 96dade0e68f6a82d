"""Greedy generation in batches: what a prompt gets as answer does not depend on its neighbours.

Prompts are batched by length and padded on the left, generation stops at the end tokens, and only
new tokens are decoded. Batches are made of the prompts' lengths and ids alone, so that the order of
rows cannot matter; weights are float32 on a CPU, where a batch changes a logit by 1e-6 at most. In
half precision on an accelerator another batch size can decide a near tie otherwise.

What a chat template makes of settings such as `reasoning_effort` is in the prompt already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import torch
from transformers import GenerationConfig, PreTrainedModel

from retune.data.chats.special_tokens import strip_control
from retune.data.chats.thoughts import holds_thought, without_thought
from retune.data.chats.tokenizers import Tokenizer
from retune.errors import ScoringError
from retune.inference.batching import pad_sequences
from retune.inference.decoding import can_decode, decode
from retune.inference.elsewhere import ask_engine
from retune.inference.loaded_models import LoadedModel
from retune.inference.remote_engine import RemoteEngine
from retune.inference.replicas import compute_batches
from retune.inference.token_losses import context_limit, most_broken

Progress = Callable[[int, int], None]
# A batch runs until its last row has ended. So answers are written in rounds of 16, 16, 32, 64...
# tokens, and those that have not ended go on in new batches: reading them again costs one pass.
_FIRST_STEPS = 16
PROMPT_TOO_LONG = "prompt_too_long"
PROMPT_EMPTY = "prompt_empty"
ENGINE_FAILED = "engine_failed"


@dataclass(frozen=True)
class Answer:
    """What a model wrote behind one prompt.

    Attributes:
        text: The new text without the end token and without the thought before it, stripped; None
            when nothing could be written.
        tokens: New tokens, the end token not counted.
        finished: An end token came before the limit; without it the text may be cut off.
        unscored_reason: Why there is no text: `prompt_too_long`, `prompt_empty`, or
            `engine_failed` where an engine elsewhere errs on this prompt time and again.
        ids: Ids of the new tokens, thought and all, without the end token.
        seconds: Its share of the time that its batches took; no part of what was written.
        batch: Number of the first batch that it was in, from 0.
    """

    text: str | None
    tokens: int = 0
    finished: bool = False
    unscored_reason: str | None = None
    ids: tuple[int, ...] = ()
    seconds: float = field(default=0.0, compare=False)
    batch: int = field(default=0, compare=False)


def generate_answers(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, batch_size: int
) -> list[str]:
    """Continue prompts greedily, all of them or none.

    Args:
        loaded: Model and tokenizer.
        prompts: Token ids per prompt.
        max_new_tokens: Most tokens written per prompt.
        batch_size: Prompts per batch; halved for a batch that runs out of memory.

    Returns:
        The new text per prompt, in the order of `prompts`, without the end token.

    Raises:
        ScoringError: A prompt is empty, or with its answer longer than the model's context.
    """
    answers = answer_all(loaded, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size)
    return [answer.text or "" for answer in answers]


def answer_all(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, batch_size: int
) -> list[Answer]:
    """Continue prompts greedily, all of them or none, and return texts with their token ids.

    Args:
        loaded: Model and tokenizer.
        prompts: Token ids per prompt.
        max_new_tokens: Most tokens written per prompt.
        batch_size: Prompts per batch; halved for a batch that runs out of memory.

    Returns:
        One answer per prompt, in their order.

    Raises:
        ScoringError: A prompt is empty, or with its answer longer than the model's context.
    """
    _refuse_unfit(loaded, prompts, max_new_tokens)
    return write_answers(loaded, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size)


def write_answers(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    progress: Progress | None = None,
) -> list[Answer]:
    """Continue prompts greedily; a prompt that does not fit is reported, and the others go on.

    Args:
        loaded: Model and tokenizer.
        prompts: Token ids per prompt.
        max_new_tokens: Most tokens written per prompt.
        batch_size: Prompts per batch; halved for a batch that runs out of memory.
        progress: Told how many prompts are done, and of how many.

    Returns:
        One answer per prompt, in their order.

    Raises:
        ServiceError: An engine elsewhere writes, and is gone.
        ScoringError: It fails on more prompts than a tenth.
    """
    if loaded.engine is not None:
        return _write_elsewhere(loaded, loaded.engine, prompts, max_new_tokens, progress)
    answers, order = split_off_unfit(prompts, context_limit(loaded.model), max_new_tokens)
    done, steps = len(prompts) - len(order), 0
    written: dict[int, list[int]] = {index: [] for index in order}
    while order:
        count = min(max(_FIRST_STEPS, steps), max_new_tokens - steps)
        steps += count
        # The longest first: if a batch does not fit into memory, it fails at once, not at the end.
        # Equally long ones by their ids, so that the order of rows does not choose the neighbours.
        order.sort(key=lambda index: (-len(prompts[index]), tuple(prompts[index])))
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        # Looked up at each call: a test puts a model of less memory in its place.
        computed = compute_batches(
            loaded.model,
            [[[*prompts[index], *written[index]] for index in batch] for batch in batches],
            partial(_generate, ends=Ends.of(loaded), max_new_tokens=count),
        )
        for number, (batch, (found, seconds)) in enumerate(zip(batches, computed, strict=True)):
            for index, ids in zip(batch, found, strict=True):
                written[index] += ids
                answer = read_answer(loaded.tokenizer, loaded.end_ids, written[index])
                before = answers[index]
                answers[index] = replace(
                    answer,
                    seconds=before.seconds + seconds / len(batch),
                    batch=number if not before.seconds else before.batch,
                )
            done += sum(answers[index].finished or steps == max_new_tokens for index in batch)
            if progress is not None:
                progress(done, len(prompts))
        order = [index for index in order if not answers[index].finished and steps < max_new_tokens]
    return answers


def _write_elsewhere(
    loaded: LoadedModel,
    engine: RemoteEngine,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    progress: Progress | None,
) -> list[Answer]:
    limits = [context_limit(loaded.model), engine.card.context]
    limit = min((each for each in limits if each is not None), default=None)
    answers, places = split_off_unfit(prompts, limit, max_new_tokens)
    written = ask_engine(
        engine,
        [prompts[place] for place in places],
        loaded.end_ids,
        max_new_tokens=max_new_tokens,
        progress=progress,
    )
    failed = [each.failed for each in written if each.failed]
    if len(failed) > most_broken(len(places)):
        raise ScoringError(
            f"the engine at {engine.address} fails on {len(failed)} of {len(places)} prompts, the "
            f"first of them so: {failed[0]}."
        )
    for place, found in zip(places, written, strict=True):
        answers[place] = (
            Answer(None, unscored_reason=ENGINE_FAILED)
            if found.failed
            else replace(
                read_answer(loaded.tokenizer, loaded.end_ids, found.ids), seconds=found.seconds
            )
        )
    return answers


def split_off_unfit(
    prompts: Sequence[Sequence[int]], limit: int | None, max_new_tokens: int
) -> tuple[list[Answer], list[int]]:
    """Find the prompts that can be continued.

    Args:
        prompts: Token ids per prompt.
        limit: Tokens of the model's context; None when it has none.
        max_new_tokens: Most tokens written per prompt.

    Returns:
        One answer per prompt, without text, and the places of the prompts that fit.
    """
    reasons: list[str | None] = [
        PROMPT_EMPTY
        if not len(prompt)
        else PROMPT_TOO_LONG
        if limit is not None and len(prompt) + max_new_tokens > limit
        else None
        for prompt in prompts
    ]
    answers = [Answer(None, unscored_reason=reason) for reason in reasons]
    return answers, [index for index, reason in enumerate(reasons) if reason is None]


def _refuse_unfit(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> None:
    limit = context_limit(loaded.model)
    longest = max((len(prompt) for prompt in prompts), default=0)
    if limit is not None and longest + max_new_tokens > limit:
        raise ScoringError(
            f"the longest prompt has {longest} tokens; with max_new_tokens = {max_new_tokens} that "
            f"is over the model's context of {limit}. Lower scoring.max_new_tokens or shorten the "
            "prompts; nothing is cut silently."
        )
    if any(not len(prompt) for prompt in prompts):
        raise ScoringError("a prompt has no tokens, so there is nothing to continue.")


class Ends(NamedTuple):
    """What generation needs of a tokenizer; small enough to be sent to another process."""

    pad_id: int
    end_ids: list[int]

    @classmethod
    def of(cls, loaded: LoadedModel) -> Ends:
        """Take it from a loaded model."""
        return cls(int(loaded.tokenizer.pad_token_id), loaded.end_ids)


def _generate(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], *, ends: Ends, max_new_tokens: int
) -> list[list[int]]:
    if can_decode(model):
        return decode(
            model,
            prompts,
            pad_id=ends.pad_id,
            end_ids=ends.end_ids,
            max_new_tokens=max_new_tokens,
        )
    input_ids, attention_mask = pad_sequences(prompts, ends.pad_id, "left")
    device = model.device
    with torch.inference_mode(), plain_greedy(model):
        written = model.generate(
            input_ids=input_ids.to(device),
            attention_mask=attention_mask.to(device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=ends.end_ids,
            pad_token_id=ends.pad_id,
        )
    new: list[list[int]] = written[:, input_ids.shape[1] :].tolist()
    return new


@contextmanager
def plain_greedy(model: PreTrainedModel) -> Iterator[None]:
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


def read_answer(tokenizer: Tokenizer, end_ids: Sequence[int], ids: Sequence[int]) -> Answer:
    """Decode new tokens up to the first end token.

    Args:
        tokenizer: The model's own.
        end_ids: Ids that end an answer.
        ids: New token ids; what follows an end token is padding.

    Returns:
        The answer, without the thought that the model wrote before it: what is compared, run and
        shown is what a user of the model gets.
    """
    ends = [place for place, token in enumerate(ids) if token in end_ids]
    kept = list(ids[: ends[0]] if ends else ids)
    text = answer_text(tokenizer, kept)
    return Answer(text, tokens=len(kept), finished=bool(ends), ids=tuple(kept))


def answer_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Return what a user of the model gets to see of its new tokens.

    Args:
        tokenizer: The model's own.
        ids: New tokens without an end token.

    Returns:
        The text, stripped, without the thought before it; empty while a thought has not ended.
    """
    # Tags of thoughts and channels may be control tokens, which are not in the plain text.
    tagged = str(tokenizer.decode(ids, skip_special_tokens=False))
    if holds_thought(tagged):
        return strip_control(without_thought(tagged), tokenizer)
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
