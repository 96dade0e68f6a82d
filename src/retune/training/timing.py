"""A few real steps of a training, timed before it is paid for."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from retune.modeling.devices import choose_device
from retune.modeling.memory.estimates import StepTimes
from retune.modeling.quantizing import write_quantized
from retune.modeling.stages import QuantizeSettings
from retune.records import ModelRef
from retune.stage import SilentReporter, Workdir
from retune.training.measured import read_measured
from retune.training.stages import TrainInputs, TrainSettings
from retune.training.supervised import train_adapter

_TIMED_STEPS = 4


def time_steps(inputs: TrainInputs, settings: TrainSettings) -> StepTimes:
    """Run a few real steps on the training rows.

    Args:
        inputs: Rows and model; the weights must be there.
        settings: Of the training.

    Returns:
        Seconds per step, and the peak.
    """
    few: dict[str, object] = {"max_steps": _TIMED_STEPS, "warmup_steps": 0.0, "evaluations": 0}
    few |= {"checkpoint_every_steps": None, "early_stopping": None, "watch": "loss"}
    training = settings.training.model_copy(update=few)
    settings = settings.model_copy(update={"training": training})
    clock = _StepClock()
    with tempfile.TemporaryDirectory(prefix="retune-estimate-") as name:
        folders = [Path(name) / each for each in ("artifact", "scratch", "model")]
        for folder in folders:
            folder.mkdir()
        inputs = inputs.model_copy(
            update={"model": quantized(inputs, settings, Workdir(folders[2], folders[1]))}
        )
        train_adapter(inputs, settings, Workdir(folders[0], folders[1], clock))
        measured = read_measured(folders[0])
    assert measured is not None
    return StepTimes(
        steps=_TIMED_STEPS,
        seconds_per_step=clock.seconds_per_step(),
        peak_memory_bytes=measured.peak_memory_bytes,
    )


class _StepClock(SilentReporter):
    """Notes when each optimizer step ended."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    def progress(self, what: str, done: int, total: int) -> None:
        """Note the time of a step."""
        if what == "steps":
            self._ends.append(time.perf_counter())

    def seconds_per_step(self) -> float:
        """Return the mean time between the ends of steps."""
        return (self._ends[-1] - self._ends[0]) / max(1, len(self._ends) - 1)


def quantized(inputs: TrainInputs, settings: TrainSettings, work: Workdir) -> ModelRef:
    """Return the model that training starts from, quantized now where the settings ask for it.

    Args:
        inputs: Whose base is quantized.
        settings: Of the training.
        work: The quantized model goes to its artifact.

    Returns:
        The given model, or the quantized one, whose figures are not measured.
    """
    if settings.quantization == "none" or inputs.model.quantization != "none":
        return inputs.model
    form = QuantizeSettings(
        dtype=settings.dtype,
        kind=settings.quantization,
        double=settings.double,
        compute_dtype=settings.compute_dtype,
    )
    write_quantized(inputs.base.folder, form, choose_device(), work)
    return inputs.model.model_copy(
        update={"folder": work.artifact, "quantization": settings.quantization}
    )
