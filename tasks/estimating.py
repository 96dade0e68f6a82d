"""What a training will need: the same estimate and the same refusal, whoever starts it."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from retune.calibrating import read_calibration
from retune.errors import ConfigError, DataError, StageDied
from retune.machine import Device, DeviceName, count_scoring_devices, find_device
from retune.modeling.memory.memory_estimate import (
    BatchSearch,
    FurtherEstimates,
    MemoryEstimate,
    TrainingEstimate,
)
from retune.modeling.memory.stage_sizes import StageSizes
from retune.modeling.placement import PLACES
from retune.modeling.prequantized import quantized_as
from retune.preflight import stages
from retune.preflight.devices import plan_recipe_devices
from retune.preflight.forecast import (
    StepTimes,
    TrainingForecast,
    make_forecast,
    refuse_unfit,
    say_fit,
)
from retune.preflight.memory_plan import SCORED_WHOLE, MemoryPlan, refuse_unplanned
from retune.preflight.planning import find_room, list_forms, plan_stages
from retune.recipe.recipe import Recipe
from retune.recipe.sections.scoring import Form
from retune.spine.process import StageProcess
from retune.spine.store import Store
from retune.training.resource_record import read_measured
from retune.watching import SilentWatcher
from tasks.judging import look_at_judge
from tasks.modeling import quantize_model, train_model
from tasks.runs.job import Job
from tasks.runs.run import stage_log
from tasks.runs.stage_task import StageTask, is_pending

estimate = StageTask(stages.estimate_training)
estimate_more = StageTask(stages.estimate_further)
measure = StageTask(stages.measure_stages)
search = StageTask(stages.find_batch)

_TIMED_STEPS = 4
_NOT_TIMED = "no steps were timed: the training is one of several machines (runner.address)"


def estimate_training(job: Job) -> TrainingForecast | None:
    """Refuse a training that the device cannot hold, before a weight is loaded.

    Args:
        job: Its run, inputs and rows.

    Returns:
        What it will take. None where that is not known: a plan may not know the rows, a
        classification head takes less than the writer that could be counted, and a model that
        cannot be counted may well be trained.

    Raises:
        ConfigError: Its tensors alone need more than the device has. Where the model is parted over
            devices, `plan_memory` refuses.
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
    if not (forecast.fits or forecast.sharded):
        run.watcher.note(f"memory: {say_fit(forecast)}, as earlier trainings went")
    return forecast


def plan_memory(job: Job, training: TrainingForecast | None = None, *, judged: bool = False) -> Job:
    """Plan in which form and where each stage holds its model, and refuse what fits no way.

    Args:
        job: Its run, inputs and rows.
        training: From `estimate_training`; None where it is not known.
        judged: Whether answers are judged, maybe by a model of this machine.

    Returns:
        The job with its plan, and with a run that tells the stages their places; unchanged where
        nothing can be planned.

    Raises:
        ConfigError: A stage fits neither device nor RAM.
    """
    plan = look_at_plan(job, find_device(), training.memory if training else None, judged=judged)
    if plan is None:
        return job
    refuse_unplanned(plan, job.run.recipe)
    for note in plan.notes():
        job.run.watcher.note(note)
    return _tell(job, plan)


def plan_scoring(job: Job) -> Job:
    """Plan in which form and where models are held that are scored, and nothing else is done.

    The form is the one of a run on the same recipe, so that both have the same stage keys. What a
    training or a merge would need is no reason to refuse.

    Args:
        job: Its run, inputs and rows.

    Returns:
        As `plan_memory`.

    Raises:
        ConfigError: What is scored fits neither device nor RAM.
    """
    plan = look_at_plan(job, find_device(), None, judged=False)
    if plan is None:
        return job
    scores = tuple(each for each in plan.stages if each.stage in SCORED_WHOLE)
    refuse_unplanned(plan.model_copy(update={"stages": scores}), job.run.recipe)
    return _tell(job, plan)


def _tell(job: Job, plan: MemoryPlan) -> Job:
    context = {**job.run.context, PLACES: plan.places().model_dump_json()}
    return replace(job, run=replace(job.run, context=context), plan=plan)


def look_at_plan(
    job: Job, device: Device, training: MemoryEstimate | None, *, judged: bool
) -> MemoryPlan | None:
    """Return the plan of memory of every stage, whether it fits or not.

    Args:
        job: Its run, inputs and rows.
        device: For which kind of device.
        training: What the training needs.
        judged: Whether a judge of this machine is asked too, as in a run.

    Returns:
        None where rows or sizes are not known.
    """
    recipe = job.run.recipe
    sizes = measure_sizes(job, device)
    if sizes is None:
        return None
    if not sizes.scored:
        job.run.watcher.note(f"memory of the stages is not planned: {sizes.fault}")
        return None
    shared = plan_recipe_devices(recipe)
    return plan_stages(
        sizes,
        training,
        recipe,
        find_room(recipe, device),
        list_forms(recipe, device, quantized_as(job.inputs.base.folder)),
        devices=shared.count,
        here=shared.here,
        sharded=shared.sharded,
        replicas=count_scoring_devices(recipe.scoring.runtime.devices),
        further=look_further(job, device) if training is not None else None,
        judge=look_at_judge(job, device) if judged else None,
    )


def measure_sizes(job: Job, device: Device) -> StageSizes | None:
    """Count the sizes of the model that the stages around a training work with.

    Args:
        job: Its run, inputs and rows.
        device: For which kind of device.

    Returns:
        None where rows or sizes are not known.
    """
    recipe, inputs, chat = job.run.recipe, job.inputs, job.data.chat
    if not job.rows_known or not chat.train or not chat.test:
        return None
    forms = list_forms(recipe, device, quantized_as(inputs.base.folder))
    sizes = measure(
        job.run,
        base=inputs.base,
        rows=chat.side("test"),
        checked=chat.side("validation" if chat.validation else "train"),
        texts=(inputs.reference_text, inputs.general_text),
        device=device,
        forms=tuple(dict.fromkeys((*forms, *_trained_in(recipe)))),
        batch_size=recipe.scoring.runtime.batch_size,
    )
    return None if is_pending(sizes) else sizes


def look_further(job: Job, device: Device) -> FurtherEstimates | None:
    """Count what preferences and rewards need.

    Args:
        job: Its run, inputs and rows.
        device: For which kind of device.

    Returns:
        None where there are none, or their rows are not known.
    """
    recipe, data = job.run.recipe, job.data
    if recipe.dpo is None and recipe.grpo is None:
        return None
    found = estimate_more(
        job.run,
        base=job.inputs.base,
        pairs=data.pairs,
        train=data.chat.side("train"),
        device=device,
    )
    if is_pending(found):
        return None
    if found.fault:
        job.run.watcher.note(f"memory of dpo and grpo is not planned: {found.fault}")
    return found


def _trained_in(recipe: Recipe) -> tuple[Form, ...]:
    return ("nf4",) if recipe.quantization.kind == "nf4" else ()


def forecast_training(
    job: Job, *, device: DeviceName | None, timed: bool
) -> tuple[TrainingForecast, MemoryPlan | None]:
    """Say what a training and the stages around it will take, whether they fit or not.

    Args:
        job: Of a run without Prefect; what needs torch runs in a process of its own.
        device: For which kind of device; None is this machine's.
        timed: Whether a few real steps are run, where the weights are on this machine.

    Returns:
        Memory, work, time, and what would fit; and the plan of memory of every stage, None where it
        is not known.

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
        plan = look_at_plan(job, asked, forecast.memory, judged=True)
        if recipe.training_cluster is not None:
            # They would be run in a folder of this machine, which other nodes do not see.
            notes = (*forecast.notes, _NOT_TIMED)
            forecast = forecast.model_copy(update={"notes": notes if timed else forecast.notes})
        elif timed and has_weights and device is None and recipe.head is None:
            forecast = forecast.model_copy(
                update={"times": _time_steps(_tell(job, plan) if plan else job)}
            )
        return forecast, plan
    except StageDied as died:
        if not timed:
            raise
        raise StageDied(f"{died.message}\nTo estimate without steps, add --no-steps.") from died
    finally:
        run.free_memory()


def find_batch(job: Job, forecast: TrainingForecast, *, device: DeviceName | None) -> BatchSearch:
    """Find how many of the longest rows go through one device at once.

    Args:
        job: Of a run without Prefect; what needs torch runs in a process of its own.
        forecast: Of the same job: the device's memory, and how far earlier estimates were off.
        device: For which kind of device; None is this machine's.

    Raises:
        ConfigError: The memory of this training cannot be counted.
    """
    run = replace(job.run, process=StageProcess(stage_log(job.run.store)))
    try:
        found = search(
            run,
            **_counted(job, find_device(device)),
            capacity=forecast.capacity_bytes,
            ratio=forecast.calibration,
        )
    finally:
        run.free_memory()
    if found.fault:
        raise ConfigError(found.fault)
    return found


def _counted(job: Job, device: Device) -> dict[str, Any]:
    recipe = job.run.recipe
    return {
        "base": job.inputs.base,
        "train": job.data.chat.side("train"),
        "device": device,
        "packed_to": recipe.prompt.max_length if recipe.training.packing else None,
        "devices": plan_recipe_devices(recipe).count,
    }


def _look(job: Job, device: Device, *, alternatives: bool = False) -> TrainingEstimate:
    look = estimate.of("other settings") if alternatives else estimate
    return look(job.run, **_counted(job, device), alternatives=alternatives)


def _hold(job: Job, device: Device, found: TrainingEstimate) -> TrainingForecast:
    """Hold an estimate against the device; where it does not fit, look for what would."""
    recipe, ratios = job.run.recipe, read_calibration(job.run.store.root)
    sharded = plan_recipe_devices(recipe).sharded
    forecast = make_forecast(found, recipe, job.data.chat, device, ratios, sharded=sharded)
    if forecast.fits or sharded:
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
