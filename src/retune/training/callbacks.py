"""What happens beside the optimizer: live metrics, the best weights, seals, and stops."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import IO, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from retune.errors import StageError
from retune.recipe.sections import WatchedFigure
from retune.scoring.figures import WATCHED
from retune.spine.stage import Reporter
from retune.spine.stopping import StopSignal
from retune.training.checkpoints import seal_checkpoint, write_atomically
from retune.training.distributed.ranks import Ranks
from retune.training.distributed.sharding import local_part
from retune.training.early_stopping import gain
from retune.training.metrics import read_metrics
from retune.training.trainable import Trainable

_ALONE = Ranks()
_SKIPPED = "skipped_batches"
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

    Attributes:
        skipped: Steps that were left out because a loss or gradient was not finite.
    """

    def __init__(self, path: Path, resumed_from: int, reporter: Reporter) -> None:
        self._path = path
        self._reporter = reporter
        kept = [line for line in read_metrics(path) if line["step"] <= resumed_from]
        self._written = {(line["name"], line["step"]) for line in kept}
        self.skipped = sum(line["name"] == _SKIPPED for line in kept)
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
                # The gradient of a step that was left out is no point of a curve.
                if known is not None and (name != "grad_norm" or math.isfinite(float(value))):
                    self._write(file, known, float(value), state.global_step)

    def skip(self, step: int) -> None:
        """Keep that a step was left out."""
        self.skipped += 1
        with open(self._path, "a", encoding="utf-8") as file:
            self._write(file, _SKIPPED, float(self.skipped), step)
        self._reporter.log(
            f"the loss or gradient of step {step} is not a number: its rows were left out "
            f"(training.on_non_finite), {self.skipped} so far"
        )

    def _write(self, file: IO[str], name: str, value: float, step: int) -> None:
        # The loss before the first step may come again after a kill.
        if (name, step) not in self._written:
            self._written.add((name, step))
            file.write(json.dumps({"name": name, "value": value, "step": step}) + "\n")
            self._reporter.metric(name, value, step)


class LogBeforeSaving(TrainerCallback):
    """Logs at each checkpoint and at the end, so that a resumed curve lacks no step's loss."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a log where a checkpoint was asked for; the Trainer logs first."""
        if control.should_save:
            control.should_log = True


class SealedCheckpoints(TrainerCallback):
    """Checks the weights of each checkpoint and seals it.

    Args:
        ranks: Each writes its part before the first one seals them all.
    """

    def __init__(self, ranks: Ranks = _ALONE) -> None:
        self._ranks = ranks

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
        self._ranks.wait()
        if self._ranks.is_main:
            seal_checkpoint(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def refuse_non_finite(model: torch.nn.Module, step: int) -> None:
    """Refuse trained weights with NaN or infinity.

    Raises:
        StageError: A trainable tensor holds one; the message names it.
    """
    for name, weight in model.named_parameters():
        if weight.requires_grad and not torch.isfinite(local_part(weight)).all():
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
        ranks: The first one decides and keeps.
    """

    def __init__(
        self,
        folder: Path,
        trained: Trainable,
        watched: WatchedFigure = "loss",
        ranks: Ranks = _ALONE,
    ) -> None:
        self._ranks = ranks
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
        figure = found[self._watched]
        if figure is None or state.global_step == 0:
            return
        if not self._ranks.agree(lambda: self._makes_room(figure)):
            return
        self._trained.save(self.kept)
        note = json.dumps({"step": state.global_step, **found})
        self._ranks.agree(lambda: write_atomically(self._note, note))

    def _makes_room(self, figure: float) -> bool:
        best = self.best
        if best and gain(self._watched, figure, best[self._watched]) <= 0:
            return False
        # The old ones go first, so that the disk never holds two: after a kill, training resumes
        # from before this evaluation and comes by it again.
        self._note.unlink(missing_ok=True)
        shutil.rmtree(self.kept, ignore_errors=True)
        return True


class TimedCheckpoints(TrainerCallback):
    """Asks for a checkpoint when the last one is so many minutes old.

    Args:
        minutes: Between two checkpoints, of whatever reason.
        ranks: All of them write it after the same step, by the clock of the first one.
    """

    def __init__(self, minutes: float, ranks: Ranks = _ALONE) -> None:
        self._seconds, self._ranks = 60 * minutes, ranks
        self._since = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Count from the first step: what is there before it is not lost with a kill."""
        self._since = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look at the clock after each optimizer step."""
        if self._ranks.agree(lambda: time.monotonic() - self._since >= self._seconds):
            control.should_save = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Count from the checkpoint that was just written."""
        self._since = time.monotonic()


class StopAtNextStep(TrainerCallback):
    """Turns a stop signal into a checkpoint and an end after the step at hand.

    Args:
        stop: The process's stop signal.
        ranks: All of them stop after the same step, whichever was asked.
    """

    def __init__(self, stop: StopSignal, ranks: Ranks = _ALONE) -> None:
        self._stop, self._ranks = stop, ranks

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look at the signal after each optimizer step."""
        if self._ranks.any(self._stop.requested):
            control.should_save = True
            control.should_training_stop = True
