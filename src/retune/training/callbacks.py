"""What happens beside the optimizer: live metrics, the best weights, seals, and stops."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from retune.errors import StageError
from retune.recipe.sections import WatchedFigure
from retune.scoring.figures import WATCHED
from retune.spine.stage import Reporter
from retune.spine.stopping import StopSignal
from retune.training.checkpoints import seal_checkpoint, write_atomically
from retune.training.early_stopping import gain
from retune.training.metrics import read_metrics
from retune.training.trainable import Trainable

# The Trainer's last log has a `train_loss` of its own, the mean of all steps: no point of a curve.
_NAMES = {
    "loss": "train_loss",
    "eval_loss": "validation_loss",
    **{f"eval_{figure.name}": f"validation_{figure.name}" for figure in WATCHED},
    "grad_norm": "gradient_norm",
    "learning_rate": "learning_rate",
    # Preferences: accuracy and margin relative to the model as it was before.
    "rewards/accuracies": "preference_accuracy",
    "eval_rewards/accuracies": "validation_preference_accuracy",
    "eval_rewards/margins": "validation_reward_margin",
    # Rewards.
    "reward": "reward",
    "reward_std": "reward_std",
    "groups_with_signal": "groups_with_signal",
    "completions/mean_length": "answer_tokens",
    "kl": "kl",
}


class MetricsLog(TrainerCallback):
    """Writes `metrics.jsonl`, the truth that MLflow mirrors, and reports progress.

    Args:
        path: The file; lines of steps after `resumed_from` are dropped, since they come again.
        resumed_from: Step of the checkpoint that training resumes from, else 0.
        reporter: Gets live figures.
    """

    def __init__(self, path: Path, resumed_from: int, reporter: Reporter) -> None:
        self._path = path
        self._reporter = reporter
        kept = [line for line in read_metrics(path) if line["step"] <= resumed_from]
        self._written = {(line["name"], line["step"]) for line in kept}
        write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Report progress after each optimizer step."""
        self._reporter.progress("steps", state.global_step, state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Keep the figures that have a step."""
        with open(self._path, "a", encoding="utf-8") as file:
            for name, value in (logs or {}).items():
                known = _NAMES.get(name)
                # The loss before the first step may come again after a kill.
                if known is not None and (known, state.global_step) not in self._written:
                    self._written.add((known, state.global_step))
                    line = {"name": known, "value": float(value), "step": state.global_step}
                    file.write(json.dumps(line) + "\n")
                    self._reporter.metric(known, float(value), state.global_step)


class FiniteLoss(TrainerCallback):
    """Stops a training whose loss or gradient is no longer a number.

    The Trainer itself would log a loss of 0.0 and finish.
    """

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Look at each logged loss and gradient norm.

        Raises:
            StageError: One is NaN or infinite.
        """
        for name in ("loss", "grad_norm", "eval_loss"):
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(float(value)):
                raise StageError(
                    f"train_adapter: {name} is {value} at step {state.global_step}. "
                    "Lower training.learning_rate, or look for broken rows; the last good "
                    "checkpoint is kept."
                )


class LogBeforeSaving(TrainerCallback):
    """Logs at each checkpoint and at the end, so that a resumed curve lacks no step's loss."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a log where a checkpoint was asked for; the Trainer logs first."""
        if control.should_save:
            control.should_log = True


class SealedCheckpoints(TrainerCallback):
    """Checks the weights of each checkpoint and seals it."""

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **_: Any,
    ) -> None:
        """Seal the checkpoint that was just written.

        Raises:
            StageError: A trained weight is not finite.
        """
        assert model is not None and args.output_dir is not None
        refuse_non_finite(model, state.global_step)
        seal_checkpoint(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def refuse_non_finite(model: torch.nn.Module, step: int) -> None:
    """Refuse trained weights with NaN or infinity.

    Raises:
        StageError: A trainable tensor holds one; the message names it.
    """
    for name, weight in model.named_parameters():
        if weight.requires_grad and not torch.isfinite(weight).all():
            raise StageError(
                f"train_adapter: {name} holds NaN or infinity after step {step}. "
                "Lower training.learning_rate; the last good checkpoint is kept."
            )


class BestWeights(TrainerCallback):
    """Keeps what was trained at the best evaluation.

    Args:
        folder: `weights/` and `best.json` are kept here across a resume. A resumed training comes
            by the same evaluations with the same figures, so that what it finds stays right.
        trained: What is kept, in the form of the stage's artifact.
        watched: What an evaluation is judged by; of equal ones the first is kept.
    """

    def __init__(self, folder: Path, trained: Trainable, watched: WatchedFigure = "loss") -> None:
        self.kept = folder / "weights"
        self._note = folder / "best.json"
        self._trained = trained
        self._watched = watched

    @property
    def best(self) -> dict[str, float] | None:
        """Step and figures of the weights that are kept, or None."""
        return dict(json.loads(self._note.read_text("utf-8"))) if self._note.is_file() else None

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Keep the weights when they are better than those kept before."""
        found = {name: (metrics or {}).get(f"eval_{name}") for name in ("loss", self._watched)}
        figure, best = found[self._watched], self.best
        if figure is None or state.global_step == 0:
            return
        if best and gain(self._watched, figure, best[self._watched]) <= 0:
            return
        # The old ones go first, so that the disk never holds two: after a kill, training resumes
        # from before this evaluation and comes by it again.
        self._note.unlink(missing_ok=True)
        shutil.rmtree(self.kept, ignore_errors=True)
        self._trained.save(self.kept)
        write_atomically(self._note, json.dumps({"step": state.global_step, **found}))


class StopAtNextStep(TrainerCallback):
    """Turns a stop signal into a checkpoint and an end after the step at hand.

    Args:
        stop: The process's stop signal.
    """

    def __init__(self, stop: StopSignal) -> None:
        self._stop = stop

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look at the signal after each optimizer step."""
        if self._stop.requested:
            control.should_save = True
            control.should_training_stop = True
