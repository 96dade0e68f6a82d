"""The course of one training, whatever is trained: resume, curves, seals, best weights, the end."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

from transformers import Trainer, TrainerState, set_seed

from retune.digests import digest_folder
from retune.errors import StageError
from retune.recipe.sections import TrainingConfig
from retune.recipe.sections.method import MethodKind
from retune.records import LOG_FOLDER, AdapterRef
from retune.stage import Workdir
from retune.stopping import STOP
from retune.training.callbacks import (
    BestWeights,
    FiniteLoss,
    LogBeforeSaving,
    MetricsLog,
    SealedCheckpoints,
    StopAtNextStep,
    refuse_non_finite,
)
from retune.training.checkpoints import latest_sealed, step_of, write_atomically
from retune.training.trained import Trained

CHECKPOINTS = "checkpoints"
"""Sub-folder of a stage's scratch folder that its trainer writes checkpoints to."""


def run_course(
    trainer: Trainer,
    trained: Trained,
    *,
    kind: MethodKind,
    training: TrainingConfig,
    seed: int,
    work: Workdir,
) -> AdapterRef:
    """Train from the latest sealed checkpoint where there is one, and keep what was learned.

    Args:
        trainer: Built, with its checkpoints below `CHECKPOINTS` of the scratch folder and
            `max_steps` as planned.
        trained: What the trainer's model learns, and how it is written.
        kind: The method, for the record.
        training: Evaluations and best weights.
        seed: Of the order of rows.
        work: Checkpoints and curves go to its scratch folder, what was trained to its artifact.

    Returns:
        What was trained and how its training went.

    Raises:
        StageError: The loss is not finite, or training ended before its planned steps.
        Interrupted: A stop was asked for; a checkpoint was sealed first.
    """
    total_steps = int(trainer.args.max_steps)
    checkpoint = latest_sealed(work.scratch / CHECKPOINTS)
    resumed_from = step_of(checkpoint) if checkpoint else 0
    best = BestWeights(_made(work.scratch / "best"), trained)
    metrics_path = work.scratch / "metrics.jsonl"
    for callback in (
        StopAtNextStep(STOP),
        LogBeforeSaving(),
        SealedCheckpoints(),
        MetricsLog(metrics_path, resumed_from, work.reporter),
        FiniteLoss(),
        *([best] if training.keep_best else []),
    ):
        trainer.add_callback(callback)
    first_loss = _first_validation_loss(trainer, training, work.scratch)
    # Whether that loss was measured now or before must not change the order of rows.
    set_seed(seed)
    with STOP.deferred():
        _train(trainer, trained, checkpoint, total_steps)
    STOP.raise_if_requested()
    if trainer.state.global_step != total_steps:
        raise StageError(
            f"training ended at step {trainer.state.global_step} of {total_steps}. "
            "Run again to resume from the last checkpoint."
        )
    refuse_non_finite(trained.model, total_steps)
    kept = best.best if training.keep_best else None
    _save(trained, best.kept if kept else None, work)
    trainable, total = trained.count()
    return AdapterRef(
        digest=digest_folder(work.artifact, without=(LOG_FOLDER, "README.md")),
        folder=work.artifact,
        kind=kind,
        trainable_parameters=trainable,
        total_parameters=total,
        steps=total_steps,
        best_step=int(kept["step"]) if kept else total_steps,
        resumed_from_step=resumed_from,
        train_loss=_mean_loss(trainer, total_steps),
        validation_loss=float(kept["loss"]) if kept else _last_loss(trainer),
        base_validation_loss=first_loss,
    )


def _first_validation_loss(
    trainer: Trainer, training: TrainingConfig, scratch: Path
) -> float | None:
    """Return the held-out loss before any step, measured once, also when training resumes."""
    note = scratch / "base_validation_loss.txt"
    if not training.evaluations:
        return None
    if not note.is_file():
        loss = trainer.evaluate()["eval_loss"]
        write_atomically(note, repr(float(loss)))
    return float(note.read_text("utf-8"))


def _train(trainer: Trainer, trained: Trained, checkpoint: Path | None, total_steps: int) -> None:
    if checkpoint is not None:
        # The Trainer loads them too, and says nothing where it finds no place for one.
        trained.load(checkpoint)
    if checkpoint is not None and step_of(checkpoint) == total_steps:
        # Killed after the last step. The Trainer would take one step more, in mid-epoch.
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        return
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def _mean_loss(trainer: Trainer, total_steps: int) -> float:
    """Return the mean over all steps; the Trainer's own is over those since the last resume."""
    points = [(line["step"], line["loss"]) for line in trainer.state.log_history if "loss" in line]
    before = [0, *(step for step, _ in points)]
    weighted = [loss * (step - start) for (step, loss), start in zip(points, before, strict=False)]
    return math.fsum(weighted) / total_steps


def _last_loss(trainer: Trainer) -> float | None:
    losses = [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
    return float(losses[-1]) if losses else None


def _save(trained: Trained, kept: Path | None, work: Workdir) -> None:
    if kept is not None:
        # Linked where the disk lets it: whole weights need not lie there twice.
        shutil.copytree(kept, work.artifact, dirs_exist_ok=True, copy_function=_link_or_copy)
    else:
        trained.save(work.artifact)
    log = _made(work.artifact / LOG_FOLDER)
    shutil.copy(work.scratch / "metrics.jsonl", log / "metrics.jsonl")


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
