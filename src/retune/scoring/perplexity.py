"""Perplexity: how surprised a model is by the reference answers.

``perplexity = exp(sum of NLL in nats / number of scored tokens)`` over all rows, token-weighted.
Lower is better. Scored are the answer's tokens, its end token included; the prompt and all padding
are excluded by position, so a padding id that equals the end token does no harm. Never the mean of
batch losses, which depends on the batch size. Text perplexity scores every token but the first of a
text and agrees with Hugging Face `evaluate`'s perplexity with `add_start_token=False` when the
latter's per-text figures are weighted by tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from retune.data.tokenizers import Tokenizer
from retune.errors import ScoringError
from retune.scoring.generation import pad_left
from retune.stopping import STOP

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RowLoss:
    """One row's surprise.

    Attributes:
        nll_sum_nats: Sum of negative log-likelihoods.
        tokens: Tokens that it is the sum over.
    """

    nll_sum_nats: float
    tokens: int


def answer_losses(
    model: PreTrainedModel,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    batch_size: int,
    pad_id: int,
    progress: Progress | None = None,
) -> list[RowLoss]:
    """Score answers given their prompts.

    Args:
        model: In evaluation mode.
        pairs: Token ids of ``(prompt, answer)``; both non-empty.
        batch_size: Rows per forward pass; changes no figure.
        pad_id: Any id.
        progress: Told how many rows are done, and of how many.

    Returns:
        One loss per pair, in their order.

    Raises:
        ScoringError: A loss is not finite (the weights are broken), or a row is longer than the
            model's context.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max((sum(map(len, pair)) for pair in pairs), default=0)
    if limit is not None and longest > limit:
        raise ScoringError(
            f"the longest row has {longest} tokens, over the model's context of {limit}. "
            "Lower prompt.max_length to the model's context; nothing is cut silently."
        )
    order = sorted(range(len(pairs)), key=lambda index: -sum(map(len, pairs[index])))
    losses = [RowLoss(math.nan, 0)] * len(pairs)
    for start in range(0, len(order), batch_size):
        STOP.raise_if_requested()
        batch = order[start : start + batch_size]
        for index, nll in zip(
            batch, _batch_nll(model, [pairs[i] for i in batch], pad_id), strict=True
        ):
            if not math.isfinite(nll):
                raise ScoringError(
                    f"row {index}: the model's loss is {nll}; its weights hold NaN or infinity."
                )
            losses[index] = RowLoss(nll, len(pairs[index][1]))
        if progress is not None:
            progress(start + len(batch), len(order))
    return losses


def _batch_nll(
    model: PreTrainedModel, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], pad_id: int
) -> list[float]:
    ids, mask = pad_left([[*prompt, *answer] for prompt, answer in pairs], pad_id)
    longest_answer = max(len(answer) for _, answer in pairs)
    device = model.device
    with torch.inference_mode():
        logits = model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            # Padding on the left must not shift positions.
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0).to(device),
            # All answers end in the last column: only these positions need the vocabulary.
            logits_to_keep=longest_answer + 1,
            use_cache=False,
        ).logits
    log_probs = logits[:, :-1].float().log_softmax(-1)
    targets = ids[:, -longest_answer:].to(device)
    nll = -log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1).double().cpu()
    return [float(nll[row, -len(answer) :].sum()) for row, (_, answer) in enumerate(pairs)]


def perplexity(losses: Sequence[RowLoss]) -> float:
    """Return the token-weighted perplexity of scored rows.

    Raises:
        ScoringError: There is no token to average over.
    """
    tokens = sum(loss.tokens for loss in losses)
    if not tokens:
        raise ScoringError("perplexity of no tokens is undefined.")
    return math.exp(math.fsum(loss.nll_sum_nats for loss in losses) / tokens)


def text_perplexity(
    model: PreTrainedModel, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int = 16
) -> float:
    """Return the perplexity of whole texts, every token but the first of each.

    Args:
        model: In evaluation mode.
        tokenizer: The model's own.
        texts: Texts; those of fewer than two tokens cannot be scored and are left out.
        batch_size: Texts per forward pass.

    Returns:
        The token-weighted perplexity.

    Raises:
        ScoringError: No text has two tokens.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    ids = [ids[:limit] for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
    pairs = [(one[:1], one[1:]) for one in ids if len(one) > 1]
    return perplexity(
        answer_losses(model, pairs, batch_size=batch_size, pad_id=tokenizer.pad_token_id or 0)
    )
