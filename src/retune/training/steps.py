"""How many optimizer steps a training takes."""

from __future__ import annotations

import math

from retune.recipe.sections import TrainingConfig


def count_steps(rows: int, training: TrainingConfig) -> int:
    """Return the optimizer steps that a training will take.

    Args:
        rows: Training rows.
        training: Steps, or epochs and batch size.

    Returns:
        `max_steps` where set, else ``ceil(epochs * ceil(rows / batch_size))``.
    """
    if training.max_steps is not None:
        return training.max_steps
    return math.ceil(training.epochs * math.ceil(rows / training.batch_size))
