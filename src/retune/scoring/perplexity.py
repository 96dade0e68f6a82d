"""Perplexity and bits per byte: how surprised a model is by texts.

``perplexity = exp(sum of NLL in nats / number of scored tokens)`` over all rows, token-weighted.
``bits per byte = sum of the text's NLL in nats / ln 2 / its UTF-8 bytes``, which models with
different tokenizers can be compared by. Lower is better for both. Never the mean of batch losses,
which depends on the batch size, nor the mean of rows' perplexities.

Three ways to choose the scored tokens, under three names:

- answers (`answer_losses`; `perplexity`, the headline): the answer's tokens given the prompt, the
  end token included; prompt and padding excluded by position. The end token writes no bytes, so
  that bits per byte leave its loss out.
- full sequences (`full_sequence_losses`): every token but the first of prompt and answer.
- texts (`text_losses`): every token but the first of a text, or every token after a prefix token.
  A text over the context is scored in windows (`windows`), never cut.

Agrees with Hugging Face `evaluate`'s perplexity (with `add_start_token`: a prefix token) when its
per-text figures are weighted by tokens, the strided loop of the transformers documentation,
lm-evaluation-harness's rolling windows. That loop weights each window by its scored tokens less
one, ours by its scored tokens: up to 4e-4 apart on a text of 1,946 tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from transformers import PreTrainedModel

from retune.data.tokenizers import Tokenizer
from retune.errors import ScoringError
from retune.scoring.batching import PaddingSide
from retune.scoring.token_losses import (
    Pair,
    Progress,
    RowLoss,
    add_losses,
    context_limit,
    score_pairs,
    score_tokens,
)
from retune.scoring.windows import Window, rolling_windows, strided_windows

__all__ = [
    "RowLoss",
    "answer_losses",
    "bits_per_byte",
    "full_sequence_losses",
    "perplexity",
    "text_losses",
    "text_perplexity",
]


def answer_losses(
    model: PreTrainedModel,
    pairs: Sequence[Pair],
    *,
    batch_size: int,
    pad_id: int,
    answer_bytes: Sequence[int] | None = None,
    end_ids: Sequence[int] = (),
    padding_side: PaddingSide = "left",
    progress: Progress | None = None,
    may_break: int = 0,
) -> list[RowLoss]:
    """Score answers given their prompts.

    Args:
        model: In evaluation mode.
        pairs: Token ids of ``(prompt, answer)``; both non-empty.
        batch_size: Rows per forward pass; changes no figure.
        pad_id: Any id.
        answer_bytes: UTF-8 bytes of each answer's text, for bits per byte.
        end_ids: Ids that end an answer: the last of them in an answer, and what stands behind it,
            are in its loss but write no bytes.
        padding_side: Changes no figure.
        progress: Told how many rows are done, and of how many.
        may_break: How many rows' losses may be not finite; they are NaN.

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
        padding_side=padding_side,
        progress=progress,
        may_break=may_break,
    )
    sizes = answer_bytes if answer_bytes is not None else [None] * len(pairs)
    return [
        RowLoss(
            _add_up(nlls),
            len(nlls),
            bytes=size,
            end_nll_nats=_add_up(nlls[_text_length(answer, end_ids) :]),
        )
        for nlls, (_, answer), size in zip(scored, pairs, sizes, strict=True)
    ]


def _add_up(nlls: Sequence[float]) -> float:
    # `fsum` refuses infinities of both signs.
    return math.fsum(nlls) if all(map(math.isfinite, nlls)) else math.nan


def _text_length(answer: Sequence[int], end_ids: Sequence[int]) -> int:
    """Count the tokens before the last end token; all of them where there is none."""
    ends = [place for place, token in enumerate(answer) if token in end_ids]
    return ends[-1] if ends else len(answer)


def full_sequence_losses(
    model: PreTrainedModel,
    pairs: Sequence[Pair],
    *,
    batch_size: int,
    pad_id: int,
    padding_side: PaddingSide = "left",
    progress: Progress | None = None,
) -> list[RowLoss]:
    """Score prompt and answer alike, all but the prompt's first token.

    Not comparable with answers alone: a prompt is long and mostly copied, so this figure is lower
    and moves less. Arguments, result and errors as those of `answer_losses`.
    """
    joined = [[*prompt, *answer] for prompt, answer in pairs]
    return answer_losses(
        model,
        [(ids[:1], ids[1:]) for ids in joined],
        batch_size=batch_size,
        pad_id=pad_id,
        padding_side=padding_side,
        progress=progress,
    )


def text_losses(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    batch_size: int,
    stride: int | None = None,
    max_length: int | None = None,
    prefix_id: int | None = None,
    padding_side: PaddingSide = "left",
    progress: Progress | None = None,
) -> list[RowLoss | None]:
    """Score whole texts, those over the context in windows.

    Args:
        model: In evaluation mode.
        tokenizer: The model's own.
        texts: Plain texts.
        batch_size: Windows per forward pass; changes no figure.
        stride: Tokens that a window moves on by; half of the window when left out. With a prefix
            token the window's length less its context of ``max_length - stride + 1``.
        max_length: Tokens that the model reads at a time; its context when left out.
        prefix_id: Token that the first one is predicted from (usually beginning of text). Without
            one the first token is not scored; its bytes count all the same.
        padding_side: Changes no figure.
        progress: Told how many windows are done, and of how many.

    Returns:
        One loss per text; None for a text without a token to score.

    Raises:
        ScoringError: A loss is not finite, or stride and window do not fit each other.
    """
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    limit = max_length or context_limit(model) or max(map(len, ids), default=0) + 1
    step = stride or max(1, limit // 2)
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
            padding_side=padding_side,
            progress=progress,
        )
    )
    return [
        add_losses([next(losses) for _ in windows], n_bytes=len(text.encode("utf-8")))
        if windows
        else None
        for text, windows in zip(texts, cut, strict=True)
    ]


def perplexity(losses: Sequence[RowLoss]) -> float:
    """Return the token-weighted perplexity of scored rows.

    Raises:
        ScoringError: There is no token to average over.
    """
    tokens = sum(loss.tokens for loss in losses)
    if not tokens:
        raise ScoringError("perplexity of no tokens is undefined.")
    return math.exp(math.fsum(loss.nll_sum_nats for loss in losses) / tokens)


def bits_per_byte(losses: Sequence[RowLoss]) -> float:
    """Return the byte-weighted bits per byte of scored rows.

    Raises:
        ScoringError: A row's bytes are not known, or there is no byte to average over.
    """
    sizes = [loss.bytes for loss in losses if loss.bytes is not None]
    if len(sizes) < len(losses) or not sum(sizes):
        raise ScoringError(
            f"bits per byte: {len(losses) - len(sizes)} of {len(losses)} rows without their bytes, "
            f"{sum(sizes)} bytes in all; expected the UTF-8 bytes of every row and at least one."
        )
    nats = math.fsum(loss.text_nll_nats for loss in losses)
    return nats / math.log(2) / sum(sizes)


def text_perplexity(
    model: PreTrainedModel, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int = 16
) -> float:
    """Return the perplexity of whole texts, every token but the first of each.

    Args:
        model: In evaluation mode.
        tokenizer: The model's own.
        texts: Texts; those of fewer than two tokens cannot be scored and are left out.
        batch_size: Windows per forward pass.

    Returns:
        The token-weighted perplexity.

    Raises:
        ScoringError: No text has two tokens.
    """
    losses = text_losses(model, tokenizer, texts, batch_size=batch_size)
    return perplexity([loss for loss in losses if loss is not None])
