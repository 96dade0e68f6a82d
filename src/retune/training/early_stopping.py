"""Ending a training that no longer gains, by the loss or by a score of the task.

What was measured stands in the trainer's own history, which each checkpoint holds: a resumed
training decides from the same figures as one that was never killed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from retune.recipe.sections import EarlyStoppingConfig, WatchedFigure
from retune.scoring.figures import FIGURES


def gain(watched: WatchedFigure, figure: float, before: float) -> float:
    """Return by how much a figure is better than an earlier one: losses fall, most scores rise."""
    falls = watched == "loss" or FIGURES[watched].lower_is_better
    return before - figure if falls else figure - before


def is_over(
    figures: Sequence[float], watched: WatchedFigure, early: EarlyStoppingConfig | None
) -> bool:
    """Say whether the last `patience` evaluations brought no gain.

    Args:
        figures: Of each evaluation, in their order.
        watched: What they are.
        early: Patience and smallest gain; None never ends a training.

    Returns:
        True where training ends.
    """
    if early is None or not figures:
        return False
    best, without = figures[0], 0
    for figure in figures[1:]:
        found = gain(watched, figure, best)
        # By 0 nothing is gained, whatever the smallest gain is.
        if found > 0 and found >= early.min_gain:
            best, without = figure, 0
        else:
            without += 1
        if without >= early.patience:
            return True
    return False


def watched_figures(state: TrainerState, watched: WatchedFigure) -> list[float]:
    """Return the watched figure of each evaluation so far, the one before any step left out."""
    name = f"eval_{watched}"
    return [float(line[name]) for line in state.log_history if name in line and line["step"] > 0]


class TaskScore(TrainerCallback):
    """Scores the model in training at each evaluation, beside its loss.

    Args:
        watched: Name of the score.
        score: Measures the model as it is.
        log: Is given the figure, as the trainer's own log is.
    """

    def __init__(
        self, watched: WatchedFigure, score: Callable[[], float], log: TrainerCallback
    ) -> None:
        self._name, self._score, self._log = f"eval_{watched}", score, log

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Add the score to what was measured; those who come after judge by it."""
        assert metrics is not None
        figures = {self._name: self._score()}
        metrics.update(figures)
        # Not by the trainer's own `log`: it would take the figures of the step at hand along.
        state.log_history.append({**figures, "step": state.global_step})
        self._log.on_log(args, state, control, logs=figures)


class EarlyStopping(TrainerCallback):
    """Ends a training that no longer gains, after a checkpoint.

    Args:
        watched: What an evaluation is judged by.
        early: Patience and smallest gain.
    """

    def __init__(self, watched: WatchedFigure, early: EarlyStoppingConfig) -> None:
        self._watched, self._early = watched, early

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a log before each evaluation: after it, it may be too late for one."""
        if control.should_evaluate:
            control.should_log = True

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look at the figures of all evaluations."""
        if is_over(watched_figures(state, self._watched), self._watched, self._early):
            control.should_save = True
            control.should_training_stop = True
