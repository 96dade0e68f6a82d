"""The loop of one training, whatever is trained: resume, curves, seals, best weights, the end."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from transformers import Trainer, TrainerState, set_seed

from retune.digests import digest_folder
from retune.errors import StageError
from retune.hard_links import link_or_copy
from retune.model_records import AdapterRef
from retune.preflight.devices import share_rows
from retune.recipe.sections import EarlyStoppingConfig, TrainingConfig, WatchedFigure
from retune.recipe.sections.method import MethodKind
from retune.records import LOG_FOLDER
from retune.spine.stage import Workdir
from retune.spine.stopping import STOP
from retune.training.callbacks import (
    BestWeights,
    LogBeforeSaving,
    MetricsLog,
    SealedCheckpoints,
    StopAtNextStep,
    TimedCheckpoints,
    refuse_non_finite,
)
from retune.training.checkpoints import (
    latest_sealed,
    step_of,
    write_atomically,
    write_no_cards,
)
from retune.training.distributed.ranks import Ranks, find_ranks
from retune.training.distributed.rows import order_by_length
from retune.training.distributed.spreading import SharedWeights, spread_trainer
from retune.training.early_stopping import (
    EarlyStopping,
    TaskScore,
    is_over,
    watched_figures,
)
from retune.training.memory_ladder import rows_measured_at_once, telling_steps
from retune.training.non_finite import FiniteSteps
from retune.training.resource_meter import measure_training
from retune.training.trainable import Trainable

CHECKPOINTS = "checkpoints"
"""Sub-folder of a stage's scratch folder that its trainer writes checkpoints to."""


def run_training(
    trainer: Trainer,
    trained: Trainable,
    *,
    kind: MethodKind,
    training: TrainingConfig,
    seed: int,
    work: Workdir,
    task_score: Callable[[], float] | None = None,
    name_row: Callable[[int], str] = "row {}".format,
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
        task_score: Scores the model in training at each evaluation, when `training.watch` is not
            the loss; higher is better. It decides best weights and early stopping. None: the
            held-out loss does.
        name_row: Names a row of the trainer's dataset by its place, for messages.

    Returns:
        What was trained and how its training went.

    Raises:
        StageError: The loss is not finite, or training ended before its planned steps.
        Interrupted: A stop was asked for; a checkpoint was sealed first.
    """
    total_steps = int(trainer.args.max_steps)
    ranks = find_ranks()
    checkpoint = ranks.agree(lambda: latest_sealed(work.scratch / CHECKPOINTS))
    resumed_from = step_of(checkpoint) if checkpoint else 0
    if checkpoint is not None:
        # The Trainer loads them too, and says nothing where it finds no place for one.
        trained.load(checkpoint)
    order_by_length(trainer, training.batch_size)
    write_no_cards(trainer)
    if ranks.count > 1:
        trained = SharedWeights(trained, ranks)
        plan = share_rows(training, ranks.count, kind=trainer.args.device.type)
        spread_trainer(trainer, ranks, plan, rows_measured=rows_measured_at_once(training, work))
    watched: WatchedFigure = "loss" if task_score is None else training.watch
    early, minutes = training.early_stopping, training.checkpoint_every_minutes
    best = BestWeights(_made(work.scratch / "best"), trained, watched, ranks)
    noted = work.scratch if ranks.is_main else work.artifact.parent / f"notes-{ranks.rank}"
    log = MetricsLog(_made(noted) / "metrics.jsonl", resumed_from, work.reporter)
    for callback in (
        StopAtNextStep(STOP, ranks),
        *([TimedCheckpoints(minutes, ranks)] if minutes else []),
        LogBeforeSaving(),
        SealedCheckpoints(ranks),
        log,
        FiniteSteps(trainer, training, log, name_row, ranks),
        # Those after it judge by what it measures.
        *([TaskScore(watched, partial(_agreed, task_score, ranks), log)] if task_score else []),
        *([best] if training.keep_best else []),
        *([EarlyStopping(watched, early)] if early else []),
    ):
        trainer.add_callback(callback)
    first_loss = _first_validation_loss(trainer, training, work.scratch, ranks)
    # Whether that loss was measured now or before must not change the order of rows. Each rank
    # draws its own dropout; the order has a seed of its own there.
    set_seed(seed + ranks.rank)
    with (
        STOP.deferred(),
        measure_training(trainer, work.artifact, resumed_from=resumed_from),
        telling_steps(trainer),
    ):
        _train(trainer, checkpoint, partial(_has_ended, watched=watched, early=early))
    if ranks.any(STOP.requested):
        STOP.requested = True
    STOP.raise_if_requested()
    steps = int(trainer.state.global_step)
    if not _has_ended(trainer.state, total_steps, watched=watched, early=early):
        raise StageError(
            f"training ended at step {steps} of {total_steps}. "
            "Run again to resume from the last checkpoint."
        )
    refuse_non_finite(trained.model, steps)
    kept = ranks.agree(lambda: best.best) if training.keep_best else None
    _save(trained, best.kept if kept else None, work, noted, ranks)
    trainable, total = trained.count()
    return AdapterRef(
        digest=digest_folder(work.artifact, without=(LOG_FOLDER, "README.md")),
        folder=work.artifact,
        kind=kind,
        trainable_parameters=trainable,
        total_parameters=total,
        steps=steps,
        stopped_early=steps < total_steps,
        best_step=int(kept["step"]) if kept else steps,
        best_score=_score(trainer, watched, kept),
        resumed_from_step=resumed_from,
        skipped_batches=log.skipped,
        train_loss=_mean_loss(trainer, steps),
        validation_loss=float(kept["loss"]) if kept else _last_loss(trainer),
        base_validation_loss=first_loss,
    )


def _agreed(score: Callable[[], float], ranks: Ranks) -> float:
    """Score in every rank, and take what the first one found: a near tie is decided once."""
    found = score()
    return ranks.agree(lambda: found)


def _first_validation_loss(
    trainer: Trainer, training: TrainingConfig, scratch: Path, ranks: Ranks
) -> float | None:
    """Return the held-out loss before any step, measured once, also when training resumes."""
    note = scratch / "base_validation_loss.txt"
    if not training.evaluations:
        return None
    if not ranks.agree(note.is_file):
        loss = trainer.evaluate()["eval_loss"]
        ranks.agree(lambda: write_atomically(note, repr(float(loss))))
    return float(note.read_text("utf-8"))


def _train(
    trainer: Trainer,
    checkpoint: Path | None,
    has_ended: Callable[[TrainerState, int], bool],
) -> None:
    if checkpoint is not None:
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if has_ended(state, int(trainer.args.max_steps)):
            # Killed after the last step, planned or not. The Trainer would take one step more.
            trainer.state = state
            return
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def _has_ended(
    state: TrainerState,
    total_steps: int,
    *,
    watched: WatchedFigure,
    early: EarlyStoppingConfig | None,
) -> bool:
    """Say whether all planned steps were taken, or the last evaluations brought no gain."""
    if state.global_step == total_steps:
        return True
    return is_over(watched_figures(state, watched), watched, early)


def _score(trainer: Trainer, watched: WatchedFigure, kept: dict[str, float] | None) -> float | None:
    if watched == "loss":
        return None
    figures = watched_figures(trainer.state, watched)
    return float(kept[watched]) if kept else figures[-1] if figures else None


def _mean_loss(trainer: Trainer, total_steps: int) -> float:
    """Return the mean over all steps; the Trainer's own is over those since the last resume."""
    points = [(line["step"], line["loss"]) for line in trainer.state.log_history if "loss" in line]
    before = [0, *(step for step, _ in points)]
    weighted = [loss * (step - start) for (step, loss), start in zip(points, before, strict=False)]
    return math.fsum(weighted) / total_steps


def _last_loss(trainer: Trainer) -> float | None:
    losses = [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
    return float(losses[-1]) if losses else None


def _save(trained: Trainable, kept: Path | None, work: Workdir, noted: Path, ranks: Ranks) -> None:
    if kept is not None and ranks.is_main:
        # Linked where the disk lets it: whole weights need not lie there twice.
        shutil.copytree(kept, work.artifact, dirs_exist_ok=True, copy_function=link_or_copy)
    elif kept is None:
        trained.save(work.artifact)
    log = _made(work.artifact / LOG_FOLDER)
    shutil.copy(noted / "metrics.jsonl", log / "metrics.jsonl")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
