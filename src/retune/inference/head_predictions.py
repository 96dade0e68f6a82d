"""The classes of a model with a head: a softmax over its figures at the last token of the prompt.

Formula: P(label | prompt) = softmax over labels of the head's figures, in float64. The label with
the largest figure is predicted; two that are equal to 1e-6 are a tie, as in
`classification.likelihood`. Batch size and padding change no figure beyond rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from retune.errors import ScoringError
from retune.inference.batching import pad_sequences, run_in_halves
from retune.inference.label_likelihood import (
    Floats,
    LikelihoodPredictions,
    predict_by_likelihood,
)
from retune.spine.stopping import STOP

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
) -> LikelihoodPredictions:
    """Let a head name the class of each prompt.

    Args:
        loaded: A model with a head.
        prompts: Token ids per prompt, none empty or over the context.
        labels: Names of the task's classes, in the columns' order.
        batch_size: Prompts per forward pass.
        progress: Told how many prompts are done, and of how many.

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
) -> Floats:
    """Return what a head says of each prompt.

    Args:
        model: A classifier in evaluation mode that reads the last real token.
        prompts: Token ids per prompt, none empty.
        batch_size: Prompts per forward pass, halved where memory runs out.
        pad_id: Any id.
        progress: Told how many prompts are done, and of how many.

    Returns:
        One figure per class, ``(prompts, classes)``, in the prompts' order.

    Raises:
        ScoringError: A figure is not finite (the weights are broken).
    """
    device = next(model.parameters()).device

    def compute(batch: Sequence[Sequence[int]]) -> list[list[float]]:
        # On the right, where learned positions before the text stay next to it.
        ids, mask = pad_sequences(batch, pad_id, "right")
        with torch.inference_mode():
            logits = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
        return logits.double().cpu().tolist()  # type: ignore[no-any-return]

    # Prompts of like length together: little padding. The longest first, as in `token_losses`.
    order = sorted(range(len(prompts)), key=lambda at: -len(prompts[at]))
    found: dict[int, list[float]] = {}
    for start in range(0, len(order), batch_size):
        STOP.raise_if_requested()
        places = order[start : start + batch_size]
        figures = run_in_halves([prompts[at] for at in places], compute)
        found |= dict(zip(places, figures, strict=True))
        if progress is not None:
            progress(start + len(places), len(order))
    table = np.array([found[at] for at in range(len(prompts))], dtype=np.float64)
    if not np.isfinite(table).all():
        raise ScoringError("the head's figures are not finite; the weights hold NaN or infinity.")
    return table
