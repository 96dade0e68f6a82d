"""The classes of a model with a head: a softmax over its figures at the last token of the prompt.

Formula: P(label | prompt) = softmax over labels of the head's figures, in float64. The label with
the largest figure is predicted; two that are equal to 1e-6 are a tie, as in
`classification.likelihood`. Batch size and padding change no figure beyond rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from retune.errors import ScoringError
from retune.inference.batching import pad_sequences
from retune.inference.label_likelihood import (
    Floats,
    LikelihoodPredictions,
    predict_by_likelihood,
)
from retune.inference.replicas import compute_batches
from retune.inference.token_losses import Clock

if TYPE_CHECKING:
    from retune.inference.loaded_models import LoadedModel

Progress = Callable[[int, int], None]


def predict_by_head(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    labels: Sequence[str],
    *,
    batch_size: int,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> LikelihoodPredictions:
    """Let a head name the class of each prompt.

    Args:
        loaded: A model with a head.
        prompts: Token ids per prompt, none empty or over the context.
        labels: Names of the task's classes, in the columns' order.
        batch_size: Prompts per forward pass.
        progress: Told how many prompts are done, and of how many.
        clock: Told how long each batch took.

    Returns:
        Predictions and probabilities.

    Raises:
        ScoringError: The head knows other labels, or a figure is not finite.
    """
    known = list(loaded.labels or ())
    if sorted(known) != sorted(labels):
        raise ScoringError(
            f"the head knows the labels {', '.join(known)}, and the rows have "
            f"{', '.join(labels)}: they must be the same. Score it on rows of its own classes, or "
            "train a head on these rows."
        )
    figures = class_figures(
        loaded.model,
        prompts,
        batch_size=batch_size,
        pad_id=int(loaded.tokenizer.pad_token_id),
        progress=progress,
        clock=clock,
    )
    columns = [known.index(label) for label in labels]
    return predict_by_likelihood(figures.reshape(-1, len(known))[:, columns], labels)


def class_figures(
    model: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    batch_size: int,
    pad_id: int,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Floats:
    """Return what a head says of each prompt.

    Args:
        model: A classifier in evaluation mode that reads the last real token.
        prompts: Token ids per prompt, none empty.
        batch_size: Prompts per forward pass, halved where memory runs out.
        pad_id: Any id.
        progress: Told how many prompts are done, and of how many.
        clock: Told how long each batch took.

    Returns:
        One figure per class, ``(prompts, classes)``, in the prompts' order.

    Raises:
        ScoringError: A figure is not finite (the weights are broken).
    """
    # Prompts of like length together: little padding. The longest first, as in `token_losses`.
    order = sorted(range(len(prompts)), key=lambda at: -len(prompts[at]))
    found: dict[int, list[float]] = {}
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    computed = compute_batches(
        model,
        [[prompts[at] for at in batch] for batch in batches],
        partial(_batch_figures, pad_id=pad_id),
    )
    for batch, (figures, seconds) in zip(batches, computed, strict=True):
        if clock is not None:
            clock(batch, seconds)
        found |= dict(zip(batch, figures, strict=True))
        if progress is not None:
            progress(len(found), len(order))
    table = np.array([found[at] for at in range(len(prompts))], dtype=np.float64)
    if not np.isfinite(table).all():
        raise ScoringError("the head's figures are not finite; the weights hold NaN or infinity.")
    return table


def _batch_figures(
    model: torch.nn.Module, prompts: Sequence[Sequence[int]], *, pad_id: int
) -> list[list[float]]:
    # On the right, where learned positions before the text stay next to it.
    ids, mask = pad_sequences(prompts, pad_id, "right")
    # A model with a part on the disk says where it computes; its first weight may have no place.
    device = getattr(model, "device", None) or next(model.parameters()).device
    with torch.inference_mode():
        logits = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
    figures: list[list[float]] = logits.double().cpu().tolist()
    return figures
