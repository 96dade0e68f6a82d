"""One trial of a comparison: its stages run here, one after the other, in one Prefect task.

Stages are found and kept in the store under the keys that `retune run` gives them. They are no
Prefect tasks of their own, so that a whole trial can be sent to another process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from retune.data.prepared import PreparedData
from retune.inputs import Inputs
from retune.recipe.loading import LoadedRecipe, load_recipe
from retune.records import AdapterRef, ModelRef, ModelScores, Record, Role, ScoredModel
from retune.stage import Reporter, Stage, StageRequest, run_stage
from retune.stages import TRAIN_ADAPTER, TRAIN_CLASSIFIER, TRAINING_STAGES
from retune.tracking import Mirror, RunStatus
from retune.tracking.mirror import PARENT_TAG
from retune.trials.results import find_yardstick
from retune.trials.stopping import Ledger, Watch
from retune.trials.trials import Trial
from retune.watching import WATCHER, StageLine, Watcher
from tasks.modeling import train_model
from tasks.run import RecipeRun, open_run
from tasks.running import prepare_run
from tasks.scoring import score_model


class TrialOrder(Record):
    """Everything that a trial's task is given, in whatever process it runs."""

    recipe: Path
    trial: Trial
    ledger: Path
    """Folder of what the comparison remembers."""
    parent_run: str
    """MLflow run of the comparison."""
    stop_hopeless: bool
    threads: int | None = None
    """Threads that the trial may use where several share the cores; None: all."""
    devices: tuple[str, ...] = ()
    """Accelerators that the workers share out, as CUDA_VISIBLE_DEVICES names them."""


@dataclass(kw_only=True)
class TrialRun(RecipeRun):
    """The run of one trial.

    Attributes:
        order: What was asked.
        ledger: What the comparison remembers.
        yardstick: What the held-out loss is over, once the rows are there.
        training_key: Stage key of the training, once it was begun.
    """

    order: TrialOrder
    ledger: Ledger
    yardstick: str = ""
    training_key: str = ""

    def compute(self, stage: Stage[Any], request: StageRequest, reporter: Reporter) -> None:
        """Run a stage; torch gets a process of its own here too, and a training is watched."""
        if not stage.on_device:
            run_stage(stage, request, reporter)
            return
        if stage.name in TRAINING_STAGES:
            self.training_key = request.key
        if stage.name in _WATCHED and self.order.stop_hopeless:
            watch = Watch(self.order.trial.name, self.yardstick, self.ledger, request.key)
            watch.refuse_again()
            reporter = _WatchedReporter(reporter, watch)
        self.process.run(request, reporter)


class _WatchedReporter:
    """Passes on what a training reports, and lets the watch stop it."""

    def __init__(self, reporter: Reporter, watch: Watch) -> None:
        self._reporter, self._watch = reporter, watch

    def progress(self, what: str, done: int, total: int) -> None:
        self._watch.progress(what, total)
        self._reporter.progress(what, done, total)

    def metric(self, name: str, value: float, step: int) -> None:
        self._reporter.metric(name, value, step)
        self._watch.metric(name, value, step)

    def log(self, message: str) -> None:
        self._reporter.log(message)


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


_WATCHED = (TRAIN_ADAPTER.name, TRAIN_CLASSIFIER.name)
"""Trainings that are watched; the held-out loss of those after them is another figure."""


@contextmanager
def trial_run(order: TrialOrder) -> Iterator[TrialRun]:
    """Open the run of one trial, with an MLflow run below that of the comparison.

    Args:
        order: What is asked.

    Yields:
        The run; its stage process ends with the block, so that the next trial's memory is its own.
    """
    _take_share(order)
    outer = WATCHER.get()
    token = WATCHER.set(_TrialWatcher(outer, order.trial.name) if outer else None)
    try:
        run = _build_run(order)
        status: RunStatus = "FAILED"
        try:
            with open_run(run):
                yield run
            status = "FINISHED"
        except (KeyboardInterrupt, SystemExit):
            status = "KILLED"
            raise
        finally:
            if run.mirror is not None:
                run.mirror.close(run.parent_run, status)
    finally:
        WATCHER.reset(token)


def _take_share(order: TrialOrder) -> None:
    """Let the stage process of a worker see its share of cores and accelerators alone."""
    if order.threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(order.threads))
    place = worker_place() if len(order.devices) > 1 else None
    if place is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = order.devices[place % len(order.devices)]


def worker_place() -> int | None:
    """Return which worker of a local Dask cluster this is; None elsewhere (Ray pins by itself)."""
    # A process that was not started by Dask has not imported it.
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        name = get_worker().name
    except ValueError:
        return None
    return name if isinstance(name, int) else None


def _build_run(order: TrialOrder) -> TrialRun:
    loaded = load_recipe(order.recipe, order.trial.overrides)
    # The comparison has shown the notes already.
    plain = prepare_run(loaded, direct=True, told=True)
    run = TrialRun(
        **{field.name: getattr(plain, field.name) for field in fields(plain)},
        order=order,
        ledger=Ledger(order.ledger),
    )
    run.name = order.trial.name
    run.mirror = open_mirror(run)
    run.parent_run = run.mirror.open_parent(
        order.trial.name, {PARENT_TAG: order.parent_run, "retune.trial": order.trial.name}
    )
    run.context["run_id"] = run.parent_run
    run.mirror.params(run.parent_run, _params(loaded, order.trial))
    return run


def open_mirror(run: RecipeRun) -> Mirror:
    """Return a mirror to where a run's recipe tracks."""
    return Mirror(
        run.context["tracking_uri"],
        run.context["experiment"],
        artifact_root=run.context["artifact_root"],
        store_root=run.store.root,
    )


def _params(loaded: LoadedRecipe, trial: Trial) -> dict[str, Any]:
    recipe = loaded.recipe.model_dump(mode="json")
    shown = ("seed", "model", "quantization", "method", "training")
    return {"overrides": " ".join(trial.overrides), **{name: recipe[name] for name in shown}}


def train_watched(run: TrialRun, data: PreparedData, source: Inputs, model: ModelRef) -> AdapterRef:
    """Train a trial; a hopeless one is stopped.

    Args:
        run: The trial's run.
        data: The rows.
        source: What the recipe names.
        model: The model that training starts from.

    Returns:
        What was trained.

    Raises:
        TrialStopped: It was hopeless, now or in an earlier run of the comparison.
    """
    run.yardstick = find_yardstick(run.loaded.recipe, data.chat.side("validation").digest)
    # What quantizing left behind in the process would be used again, and not be counted.
    run.process.stop()
    return train_model(run, data, source, model)


def score_trial(
    run: TrialRun, model: ScoredModel, data: PreparedData, source: Inputs
) -> ModelScores:
    """Score what was trained on the figures that decide, and leave out most of the probes.

    Args:
        run: The trial's run.
        model: What was trained.
        data: The rows; their test side is scored.
        source: What the recipe names.

    Returns:
        The reports.
    """
    gate, probes = run.loaded.recipe.gate, run.loaded.recipe.probes
    wants_probes = gate.metric == "probe_pass_rate" or gate.min_probe_pass_rate is not None
    lean = replace(source, probes=source.probes if wants_probes else None, counterfactuals=None)
    kept = probes.model_copy(update={"robustness": None}) if probes and wants_probes else None
    # What is asked of the model is not in any key: these stages are those of `retune run`.
    recipe = run.loaded.recipe.model_copy(update={"probes": kept})
    lean_run = replace(run, loaded=replace(run.loaded, recipe=recipe))
    role: Role = "adapter"
    return score_model(lean_run, role, model, data, lean)
