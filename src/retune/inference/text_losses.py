"""Losses of answers, of prompts with their answers, and of texts of any length.

What `retune.scoring.perplexity` adds up; which tokens each of them scores is said there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedModel

from retune.data.chats.tokenizers import Tokenizer
from retune.errors import ScoringError
from retune.inference.token_losses import (
    Clock,
    Pair,
    Progress,
    RowLoss,
    add_losses,
    context_limit,
    score_pairs,
    score_tokens,
)
from retune.inference.windows import Window, rolling_windows, strided_windows


class PairLosses(NamedTuple):
    """One row's surprise, from one forward pass."""

    answer: RowLoss
    whole: RowLoss
    """Prompt and answer, all but the first token."""


def pair_losses(
    model: PreTrainedModel,
    pairs: Sequence[Pair],
    *,
    batch_size: int,
    pad_id: int,
    answer_bytes: Sequence[int],
    end_ids: Sequence[int],
    progress: Progress | None = None,
    may_break: int = 0,
) -> list[PairLosses]:
    """Score prompt and answer in one pass: the answer given its prompt, and both as a whole.

    The two are not comparable: a prompt is long and mostly copied, so that the figure of the whole
    is lower and moves less.

    Args:
        model: In evaluation mode.
        pairs: Token ids of ``(prompt, answer)``; both non-empty, within the model's context.
        batch_size: Rows per forward pass; changes no figure.
        pad_id: Any id.
        answer_bytes: UTF-8 bytes of each answer's text, for bits per byte.
        end_ids: Ids that end an answer: one at its end is in its loss but writes no bytes.
        progress: Told how many rows are done, and of how many.
        may_break: How many rows' losses may be not finite; they are NaN.

    Returns:
        The losses of each pair, in their order.

    Raises:
        ScoringError: Losses are not finite on more rows than may break (the weights are broken).
    """
    whole = [[*prompt, *answer] for prompt, answer in pairs]
    scored = score_tokens(
        model,
        [(ids[:1], ids[1:]) for ids in whole],
        batch_size=batch_size,
        pad_id=pad_id,
        progress=progress,
        may_break=may_break,
    )
    return [
        PairLosses(
            answer=RowLoss(
                _add_up(nlls[-len(answer) :]),
                len(answer),
                bytes=size,
                end_nll_nats=nlls[-1] if answer[-1] in end_ids else 0.0,
            ),
            whole=RowLoss(_add_up(nlls), len(nlls)),
        )
        for nlls, (_, answer), size in zip(scored, pairs, answer_bytes, strict=True)
    ]


def answer_losses(
    model: PreTrainedModel,
    pairs: Sequence[Pair],
    *,
    batch_size: int,
    pad_id: int,
    answer_bytes: Sequence[int] | None = None,
    progress: Progress | None = None,
    may_break: int = 0,
    clock: Clock | None = None,
) -> list[RowLoss]:
    """Score answers given their prompts.

    Args:
        model: In evaluation mode.
        pairs: Token ids of ``(prompt, answer)``; both non-empty.
        batch_size: Rows per forward pass; changes no figure.
        pad_id: Any id.
        answer_bytes: UTF-8 bytes of each answer's text, for bits per byte.
        progress: Told how many rows are done, and of how many.
        may_break: How many rows' losses may be not finite; they are NaN.
        clock: Told how long each batch took.

    Returns:
        One loss per pair, in their order.

    Raises:
        ScoringError: Losses are not finite on more rows than may break (the weights are
            broken), a prompt or answer is empty, or a row is longer than the model's context.
    """
    limit = context_limit(model)
    longest = max((sum(map(len, pair)) for pair in pairs), default=0)
    if limit is not None and longest > limit:
        raise ScoringError(
            f"the longest row has {longest} tokens, over the model's context of {limit}. "
            "Lower prompt.max_length to the model's context; nothing is cut silently."
        )
    scored = score_tokens(
        model,
        pairs,
        batch_size=batch_size,
        pad_id=pad_id,
        progress=progress,
        may_break=may_break,
        clock=clock,
    )
    sizes = answer_bytes if answer_bytes is not None else [None] * len(pairs)
    return [
        RowLoss(_add_up(nlls), len(nlls), bytes=size)
        for nlls, size in zip(scored, sizes, strict=True)
    ]


def _add_up(nlls: Sequence[float]) -> float:
    # `fsum` refuses infinities of both signs.
    return math.fsum(nlls) if all(map(math.isfinite, nlls)) else math.nan


def text_losses(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    batch_size: int,
    prefix_id: int | None = None,
    progress: Progress | None = None,
) -> list[RowLoss | None]:
    """Score whole texts, those over the context in windows that move on by half of it.

    Args:
        model: In evaluation mode.
        tokenizer: The model's own.
        texts: Plain texts.
        batch_size: Windows per forward pass; changes no figure.
        prefix_id: Token that the first one is predicted from (usually beginning of text). Without
            one the first token is not scored; its bytes count all the same.
        progress: Told how many windows are done, and of how many.

    Returns:
        One loss per text; None for a text without a token to score.

    Raises:
        ScoringError: A loss is not finite.
    """
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    limit = context_limit(model) or max(map(len, ids), default=0) + 1
    step = max(1, limit // 2)
    cut: list[list[Window]] = [
        strided_windows(one, max_length=limit, stride=step)
        if prefix_id is None
        else rolling_windows(
            one, max_length=limit, prefix_id=prefix_id, context_length=limit - step + 1
        )
        for one in ids
    ]
    losses = iter(
        score_pairs(
            model,
            [window for windows in cut for window in windows],
            batch_size=batch_size,
            pad_id=tokenizer.pad_token_id or 0,
            progress=progress,
        )
    )
    return [
        add_losses([next(losses) for _ in windows], n_bytes=len(text.encode("utf-8")))
        if windows
        else None
        for text, windows in zip(texts, cut, strict=True)
    ]
