"""What a training will need: the same estimate and the same refusal, whoever starts it."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from retune.calibrating import read_calibration
from retune.errors import ConfigError, DataError, StageDied
from retune.machine import Device, DeviceName, find_device
from retune.modeling.memory.memory_estimate import TrainingEstimate
from retune.preflight import stages
from retune.preflight.forecast import (
    StepTimes,
    TrainingForecast,
    make_forecast,
    refuse_unfit,
    say_fit,
)
from retune.recipe.recipe import Recipe
from retune.spine.process import StageProcess
from retune.spine.store import Store
from retune.training.resource_record import read_measured
from retune.watching import SilentWatcher
from tasks.job import Job
from tasks.modeling import quantize_model, train_model
from tasks.run import stage_log
from tasks.stage_task import StageTask

estimate = StageTask(stages.estimate_training)

_TIMED_STEPS = 4


def estimate_training(job: Job) -> TrainingForecast | None:
    """Refuse a training that the device cannot hold, before a weight is loaded.

    Args:
        job: Its run, inputs and rows.

    Returns:
        What it will take. None where that is not known: a plan may not know the rows, a
        classification head takes less than the writer that could be counted, and a model that
        cannot be counted may well be trained.

    Raises:
        ConfigError: Its tensors alone need more than the device has.
    """
    run, device = job.run, find_device()
    if run.recipe.head is not None or not job.data.chat.train:
        return None
    found = _look(job, device)
    if run.planning:
        return None
    if found.memory is None:
        run.watcher.note(f"memory is not estimated: {found.fault}")
        return None
    forecast = _hold(job, device, found)
    refuse_unfit(forecast)
    if not forecast.fits:
        run.watcher.note(f"memory: {say_fit(forecast)}, as earlier trainings went")
    return forecast


def forecast_training(job: Job, *, device: DeviceName | None, timed: bool) -> TrainingForecast:
    """Say what a training will take, whether it fits or not.

    Args:
        job: Of a run without Prefect; what needs torch runs in a process of its own.
        device: For which kind of device; None is this machine's.
        timed: Whether a few real steps are run, where the weights are on this machine.

    Returns:
        Memory, work, time, and what would fit.

    Raises:
        DataError: There are no rows.
        ConfigError: The memory of this training cannot be counted.
        StageDied: Memory ran out, as it may while steps are timed.
    """
    recipe, base = job.run.recipe, job.inputs.base
    if not job.data.chat.train:
        raise DataError("no training rows: there is nothing to estimate. Look at retune check.")
    if recipe.method.kind == "frozen":
        raise ConfigError(
            "method.kind is frozen: the memory of a head's training is not estimated. It is about "
            "that of the base's weights and one pass without gradients."
        )
    run = replace(job.run, process=StageProcess(stage_log(job.run.store)))
    job, asked = replace(job, run=run), find_device(device)
    has_weights = any(base.folder.glob("*.safetensors"))
    try:
        forecast = _hold(job, asked, _look(job, asked))
        if not timed or not has_weights or device is not None or recipe.head is not None:
            return forecast
        return forecast.model_copy(update={"times": _time_steps(job)})
    except StageDied as died:
        if not timed:
            raise
        raise StageDied(f"{died.message}\nTo estimate without steps, add --no-steps.") from died
    finally:
        run.free_memory()


def _look(job: Job, device: Device, *, alternatives: bool = False) -> TrainingEstimate:
    recipe = job.run.recipe
    look = estimate.of("other settings") if alternatives else estimate
    return look(
        job.run,
        base=job.inputs.base,
        train=job.data.chat.side("train"),
        device=device,
        packed_to=recipe.prompt.max_length if recipe.training.packing else None,
        alternatives=alternatives,
    )


def _hold(job: Job, device: Device, found: TrainingEstimate) -> TrainingForecast:
    """Hold an estimate against the device; where it does not fit, look for what would."""
    recipe, ratios = job.run.recipe, read_calibration(job.run.store.root)
    forecast = make_forecast(found, recipe, job.data.chat, device, ratios)
    if forecast.fits:
        return forecast
    found = _look(job, device, alternatives=True)
    return make_forecast(found, recipe, job.data.chat, device, ratios)


def _time_steps(job: Job) -> StepTimes:
    """Run a few real steps; what they train lies in a store that is thrown away.

    Their time is that of this machine, today: no later estimate may find it.
    """
    run, inputs = job.run, job.inputs
    model = quantize_model(run, base=inputs.base, reference_text=inputs.reference_text)
    # What quantizing left behind in the process would be used again, and not be counted.
    run.free_memory()
    clock, recipe = _StepClock(), _few_steps(run.recipe)
    with tempfile.TemporaryDirectory(prefix="retune-estimate-") as name:
        timed = replace(
            run,
            settings=recipe,
            loaded=replace(run.loaded, recipe=recipe),
            store=Store(Path(name)),
            watcher=clock,
        )
        measured = read_measured(train_model(replace(job, run=timed), model).folder)
    assert measured is not None
    return StepTimes(
        steps=_TIMED_STEPS,
        seconds_per_step=clock.seconds_per_step(),
        peak_memory_bytes=measured.peak_memory_bytes,
    )


def _few_steps(recipe: Recipe) -> Recipe:
    few: dict[str, Any] = {"max_steps": _TIMED_STEPS, "warmup_steps": 0.0, "evaluations": 0}
    few |= {"checkpoint_every_steps": None, "early_stopping": None, "watch": "loss"}
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=few)})


class _StepClock(SilentWatcher):
    """Notes when each optimizer step ended."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    def progress(self, label: str, what: str, done: int, total: int) -> None:
        """Note the time of a step."""
        if what == "steps":
            self._ends.append(time.perf_counter())

    def seconds_per_step(self) -> float:
        """Return the mean time between the ends of steps."""
        return (self._ends[-1] - self._ends[0]) / max(1, len(self._ends) - 1)
