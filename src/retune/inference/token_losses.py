"""Negative log-likelihoods of tokens given what stands before them, in padded batches.

What perplexity, bits per byte and forgetting are made of. Scored tokens are found by position,
never by id, so that padding with the end token does no harm; padding may stand on either side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from transformers import PreTrainedModel

from retune.errors import ScoringError
from retune.inference.batching import PaddingSide, pad_sequences
from retune.inference.replicas import compute_batches
from retune.inference.shared_prefixes import (
    batch_by_length,
    can_share,
    find_groups,
    make_batches,
    pays,
    read_in_two,
)
from retune.modeling.context import read_context

LOSS_NOT_FINITE = "loss_not_finite"
Progress = Callable[[int, int], None]
Clock = Callable[[Sequence[int], float], None]
"""Told of each batch which places of what was given it had, and how many seconds it took."""
Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of ``(context, scored)``; both non-empty."""


@dataclass(frozen=True)
class RowLoss:
    """One row's surprise.

    Attributes:
        nll_sum_nats: Sum of negative log-likelihoods.
        tokens: Tokens that it is the sum over.
        bytes: UTF-8 bytes of the text that the tokens write; None when only tokens were given.
        end_nll_nats: What of the sum is the end token's (and that of all behind it), which writes
            no bytes.
    """

    nll_sum_nats: float
    tokens: int
    bytes: int | None = None
    end_nll_nats: float = 0.0

    @property
    def text_nll_nats(self) -> float:
        """The surprise of the text alone: the numerator of bits per byte."""
        return self.nll_sum_nats - self.end_nll_nats


def context_limit(model: PreTrainedModel) -> int | None:
    """Return how many tokens a model can read at a time; None when it does not say.

    Learned positions before the text (prefix tuning, P-tuning, prompt tuning) take some of them.
    """
    limit = read_context(model.config)
    settings = getattr(model, "active_peft_config", None)
    learned = getattr(settings, "num_virtual_tokens", None) or 0
    return limit - learned if limit is not None else None


def score_pairs(
    model: PreTrainedModel,
    pairs: Sequence[Pair],
    *,
    batch_size: int,
    pad_id: int,
    padding_side: PaddingSide = "left",
    progress: Progress | None = None,
) -> list[RowLoss]:
    """Score tokens given their context, and add them up by pair.

    Arguments and errors as those of `score_tokens`.

    Returns:
        One loss per pair, in their order.
    """
    scored = score_tokens(
        model,
        pairs,
        batch_size=batch_size,
        pad_id=pad_id,
        padding_side=padding_side,
        progress=progress,
    )
    return [RowLoss(math.fsum(nlls), len(nlls)) for nlls in scored]


def score_tokens(
    model: PreTrainedModel,
    pairs: Sequence[Pair],
    *,
    batch_size: int,
    pad_id: int,
    padding_side: PaddingSide = "left",
    progress: Progress | None = None,
    may_break: int = 0,
    clock: Clock | None = None,
) -> list[list[float]]:
    """Score each token given what stands before it.

    Args:
        model: In evaluation mode.
        pairs: Context and scored tokens; the last token is not read, so that a pair may be one
            token longer than the model's context.
        batch_size: Pairs per forward pass, halved where memory runs out; changes no figure.
        pad_id: Any id.
        padding_side: Changes no figure either.
        progress: Told how many pairs are done, and of how many.
        may_break: How many pairs' losses may be not finite, as `most_broken` says it.
        clock: Told how long each batch took.

    Returns:
        Negative log-likelihoods in nats of each pair's scored tokens, in their order.

    Raises:
        ScoringError: Losses are not finite on more pairs than may break (the weights are
            broken), a side of a pair is empty, or a pair is longer than the model's context.
    """
    _refuse_unfit(model, pairs)
    losses: list[list[float]] = [[] for _ in pairs]
    broken = 0
    split = make_batches if can_share(model) else batch_by_length
    batches = split([_whole(pair) for pair in pairs], batch_size)
    computed = compute_batches(
        model,
        [[pairs[index] for index in batch] for batch in batches],
        partial(_batch_nlls, pad_id=pad_id, side=padding_side),
    )
    done = 0
    for batch, (found, seconds) in zip(batches, computed, strict=True):
        if clock is not None:
            clock(batch, seconds)
        for index, nlls in zip(batch, found, strict=True):
            broken += not all(map(math.isfinite, nlls))
            if broken > may_break:
                raise ScoringError(
                    f"row {index}: the model's loss is {sum(nlls)}; its weights hold NaN or "
                    "infinity."
                )
            losses[index] = nlls
        done += len(batch)
        if progress is not None:
            progress(done, len(pairs))
    return losses


def _whole(pair: Pair) -> list[int]:
    context, scored = pair
    return [*context, *scored]


def most_broken(rows: int) -> int:
    """Say on how many rows a loss that is no number is taken for the row's fault.

    A number format may be too small for one text. A model that loses more than a tenth of its rows,
    or its only one, has broken weights: what is left would make a figure of another set.

    Args:
        rows: Rows that are scored.

    Returns:
        That many; the others have a figure.
    """
    return max(0, min(rows - 1, max(1, rows // 10)))


def _refuse_unfit(model: PreTrainedModel, pairs: Sequence[Pair]) -> None:
    empty = [index for index, pair in enumerate(pairs) if not all(map(len, pair))]
    if empty:
        raise ScoringError(
            f"row {empty[0]} has {len(pairs[empty[0]][0])} tokens of context and "
            f"{len(pairs[empty[0]][1])} to score; expected at least one of each."
        )
    limit = context_limit(model)
    longest = max((sum(map(len, pair)) for pair in pairs), default=0)
    if limit is not None and longest > limit + 1:
        raise ScoringError(
            f"a window has {longest} tokens, over the model's context of {limit}. "
            "Use shorter windows; nothing is cut silently."
        )


def _batch_nlls(
    model: PreTrainedModel, pairs: Sequence[Pair], *, pad_id: int, side: PaddingSide
) -> list[list[float]]:
    sequences = [_whole(pair) for pair in pairs]
    if can_share(model):
        groups = find_groups(sequences)
        if pays(groups, sequences):
            firsts = [len(context) for context, _ in pairs]
            return read_in_two(model, sequences, firsts, groups, pad_id=pad_id)
    ids, mask = pad_sequences(sequences, pad_id, side)
    width = ids.shape[1]
    ends = [width if side == "left" else len(c) + len(s) for c, s in pairs]
    firsts = [end - len(scored) for end, (_, scored) in zip(ends, pairs, strict=True)]
    kept = width - min(firsts)
    device = model.device
    # The last token is only predicted, so it is not read.
    read = mask[:, :-1]
    with torch.inference_mode():
        logits = model(
            input_ids=ids[:, :-1].to(device),
            attention_mask=read.to(device),
            # Padding must not shift positions.
            position_ids=(read.cumsum(-1) - 1).clamp(min=0).to(device),
            # Only the positions from the first scored token on need the vocabulary.
            logits_to_keep=kept,
            use_cache=False,
        ).logits
        targets = ids[:, -kept:].to(device).unsqueeze(-1)
        nll = -logits.float().log_softmax(-1).gather(-1, targets).squeeze(-1).double().cpu()
    shift = width - kept
    return [
        nll[row, first - shift : end - shift].tolist()
        for row, (first, end) in enumerate(zip(firsts, ends, strict=True))
    ]


def add_losses(losses: Sequence[RowLoss], *, n_bytes: int | None = None) -> RowLoss:
    """Add the losses of one text's windows.

    Args:
        losses: One per window.
        n_bytes: UTF-8 bytes of the whole text, if known.

    Returns:
        The text's loss.
    """
    total = RowLoss(
        math.fsum(one.nll_sum_nats for one in losses), sum(one.tokens for one in losses)
    )
    return replace(total, bytes=n_bytes)
