"""One trial of a comparison: its stages run here, one after the other, in one Prefect task.

Stages are found and kept in the store under the keys that `retune run` gives them. They are no
Prefect tasks of their own, so that a whole trial can be sent to another process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from retune.model_records import AdapterRef, ModelRef
from retune.spine.process import StageProcess
from retune.spine.stage import Reporter, Stage, StageRequest
from retune.training.stages import train_adapter, train_classifier
from retune.trials.pruning import Ledger, Pruner, WatchedReporter, ledger_folder
from retune.trials.results import find_loss_scope
from retune.trials.sharing import take_share
from retune.trials.trials import TrialRequest, load_trial
from retune.watching import WATCHER, StageLine, Watcher
from tasks.modeling import train_model
from tasks.runs.job import Job
from tasks.runs.opening import prepare_run
from tasks.runs.run import RecipeRun, TrackedRun, open_run, stage_log

_WATCHED = (train_adapter.name, train_classifier.name)
"""Trainings that are watched; the held-out loss of those after them is another figure."""
_SHOWN = {"seed", "model", "quantization", "method", "training"}
"""Sections of the recipe that MLflow shows of a trial."""


@dataclass(frozen=True)
class OpenTrial:
    """A trial under way.

    Attributes:
        run: Its run.
        request: What was asked.
    """

    run: RecipeRun
    request: TrialRequest

    @property
    def ledger(self) -> Ledger:
        """What the comparison remembers."""
        return Ledger(ledger_folder(self.run.store.root, self.request.comparison))


@contextmanager
def open_trial(request: TrialRequest) -> Iterator[OpenTrial]:
    """Open the run of one trial, with an MLflow run below that of the comparison.

    Args:
        request: What is asked.

    Yields:
        The trial; its stage process ends with the block, so that the next trial's memory is its
        own.
    """
    take_share(request)
    trial, outer = request.trial, WATCHER.get()
    token = WATCHER.set(_TrialWatcher(outer, trial.name) if outer else None)
    try:
        loaded = load_trial(request.recipe, trial)
        # Without Prefect, but with a process for torch. The comparison has shown the notes already.
        run = prepare_run(loaded, direct=True, told=True)
        run = replace(run, name=trial.name, process=StageProcess(stage_log(run.store)))
        shown = loaded.recipe.model_dump(mode="json", include=_SHOWN)
        tracked = TrackedRun(
            name=trial.name,
            tags={"retune.trial": trial.name},
            params={"overrides": " ".join(trial.overrides), **shown},
            below=request.parent_run,
        )
        with open_run(run, tracked) as opened:
            yield OpenTrial(opened, request)
    finally:
        WATCHER.reset(token)


def train_watched(trial: OpenTrial, job: Job, model: ModelRef) -> AdapterRef:
    """Train a trial; a hopeless one is stopped.

    Args:
        trial: The trial.
        job: Its run, inputs and rows.
        model: The model that training starts from.

    Returns:
        What was trained.

    Raises:
        TrialStopped: It was hopeless, now or in an earlier run of the comparison.
    """
    loss_scope = measured_over(job)

    def supervise(stage: Stage[..., Any], request: StageRequest, reporter: Reporter) -> Reporter:
        if stage.name not in _WATCHED:
            return reporter
        pruner = Pruner(trial.request.trial.name, loss_scope, trial.ledger, request.key)
        pruner.refuse_again()
        return WatchedReporter(reporter, pruner)

    # What quantizing left behind in the process would be used again, and not be counted.
    job.run.free_memory()
    if trial.request.stop_hopeless:
        job = replace(job, run=replace(job.run, supervise=supervise))
    return train_model(job, model)


def measured_over(job: Job) -> str:
    """Return the digest of what the trial's held-out loss is over.

    Args:
        job: The trial's.
    """
    return find_loss_scope(job.run.recipe, job.data.chat.side("validation").digest)


class _TrialWatcher:
    """Tells who watches from outside what one trial does; its stages are no lines of their own."""

    def __init__(self, outer: Watcher, name: str) -> None:
        self._outer, self._name = outer, name

    def started(self, label: str, reason: str) -> None:
        self._outer.started(f"{self._name}: {label}", reason)

    def progress(self, label: str, what: str, done: int, total: int) -> None:
        self._outer.progress(f"{self._name}: {label}", what, done, total)

    def finished(self, line: StageLine) -> None:
        pass

    def note(self, text: str) -> None:
        self._outer.note(f"{self._name}: {text}")
