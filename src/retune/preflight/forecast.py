"""An estimate held against the machine that a training would run on. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from retune.commands import set_options
from retune.errors import ConfigError, DoesNotFit
from retune.machine import Device, find_memory
from retune.modeling.memory.memory_estimate import MemoryEstimate, TrainingEstimate
from retune.pages.numbers import show_bytes
from retune.preflight.steps import count_sequences, count_steps
from retune.recipe.recipe import Recipe
from retune.records import ChatRef, Record

_UNITS = {"KB": 1000, "MB": 1000**2, "GB": 1000**3}


class StepTimes(Record):
    """What a few real steps took."""

    steps: int
    seconds_per_step: float
    """Mean of those after the first, which warms up."""
    peak_memory_bytes: int
    """Most that was held while they ran, of the process on a CPU."""


class Advice(Record):
    """A change of settings, and what the peak would be with it."""

    overrides: tuple[str, ...]
    peak_bytes: int


class TrainingForecast(Record):
    """What a training will take on a device, before it is started."""

    memory: MemoryEstimate
    calibration: float | None
    """Measured by estimated peak, both without libraries, of earlier trainings of the kind; None
    where there were none."""
    peak_bytes: int
    """The estimated peak, calibrated where possible."""
    capacity_bytes: int
    """Memory of the device: the recipe's, else this machine's."""
    steps: int
    tokens: int
    """That go through the model to be learned from, padding not counted."""
    times: StepTimes | None = None
    """None where no steps were run."""
    sharded: bool = False
    """Whether the model is parted over devices. The parts here are those of a whole one: what a
    device holds of them is in the plan of memory."""
    advice: tuple[Advice, ...] = ()
    """Changes with which it would fit; empty where it does fit, or where none was found."""
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the peak is below the device's memory."""
        return self.peak_bytes <= self.capacity_bytes

    @property
    def seconds(self) -> float | None:
        """Return the time of all steps, without evaluations; None where no steps were run."""
        return None if self.times is None else self.times.seconds_per_step * self.steps


def make_forecast(
    found: TrainingEstimate,
    recipe: Recipe,
    chat: ChatRef,
    device: Device,
    ratios: Mapping[str, float],
    *,
    sharded: bool = False,
) -> TrainingForecast:
    """Hold an estimate against a device.

    Args:
        found: The estimate; with alternatives, those that fit become advice.
        recipe: Says how much memory the device has; null asks this machine.
        chat: The rows.
        device: The kind of device that the estimate is for.
        ratios: Measured by estimated memory of earlier trainings, by `calibration_name`.
        sharded: Whether the model is parted over several devices.

    Returns:
        The forecast.

    Raises:
        ConfigError: The memory cannot be counted, or nothing says how much the device has.
    """
    memory = found.memory
    if memory is None:
        raise ConfigError(found.fault)
    ratio = ratios.get(calibration_name(device.name, recipe.method.kind))
    capacity = parse_memory(recipe.device.memory) or find_memory(device.name)
    peak = calibrate_peak(memory, ratio)
    sequences = count_sequences(chat.side("train"), recipe.training, recipe.prompt.max_length)
    steps = count_steps(sequences, recipe.training)
    changed = [
        Advice(overrides=each.overrides, peak_bytes=calibrate_peak(each.memory, ratio))
        for each in found.alternatives
    ]
    return TrainingForecast(
        memory=memory,
        calibration=ratio,
        peak_bytes=peak,
        capacity_bytes=capacity,
        steps=steps,
        tokens=round(chat.train_tokens / max(1, sequences) * steps * recipe.training.batch_size),
        sharded=sharded,
        advice=tuple(each for each in changed if each.peak_bytes <= capacity < peak),
        notes=tuple(_notes(recipe, device, ratio)),
    )


def calibration_name(device: str, kind: str) -> str:
    """Return the name that ratios of a device and a method are kept under."""
    return f"{device}/{kind}"


def calibrate_peak(memory: MemoryEstimate, ratio: float | None) -> int:
    """Return the estimated peak, its part above the libraries times a ratio."""
    return memory.runtime + round(memory.above_runtime * (ratio or 1.0))


def parse_memory(text: str | None) -> int | None:
    """Return the bytes of a size such as ``24GB``, in units of 1,000; None for None."""
    return None if text is None else int(text[:-2]) * _UNITS[text[-2:]]


def say_fit(found: TrainingForecast) -> str:
    """Say in one sentence whether a training fits, and by how much."""
    beside = abs(found.capacity_bytes - found.peak_bytes)
    what = "fits, with" if found.fits else "does not fit, by"
    end = " to spare" if found.fits else ""
    whole = ", were the model whole on each device (training.sharding)" if found.sharded else ""
    return (
        f"{what} {show_bytes(beside)}{end}: peak {show_bytes(found.peak_bytes)} of "
        f"{show_bytes(found.capacity_bytes)}{whole}"
    )


def refuse_unfit(found: TrainingForecast) -> None:
    """Refuse a training that certainly does not fit.

    What tensors take at once is counted; what earlier trainings held beside them differs from run
    to run, and is no reason.

    Args:
        found: The forecast. That of a model which is parted over devices is never refused here: the
            plan of memory knows what each holds (`retune.preflight.memory_plan.refuse_unplanned`).

    Raises:
        DoesNotFit: Its tensors alone need more than the device has.
    """
    needed = found.memory.total
    if found.sharded or needed <= found.capacity_bytes:
        return
    ways = [
        f"{set_options(each.overrides)} ({show_bytes(each.peak_bytes)})" for each in found.advice
    ]
    instead = f"It would fit with: {'; '.join(ways)}." if ways else "No single change makes it fit."
    raise DoesNotFit(
        f"device.memory: {show_bytes(found.capacity_bytes)}, but this training needs at least "
        f"{show_bytes(needed)}. {instead} retune estimate shows the parts."
    )


def _notes(recipe: Recipe, device: Device, ratio: float | None) -> Iterator[str]:
    if device.name == "cpu" and ratio is None:
        yield (
            "not calibrated: beside its tensors a process on a CPU holds freed memory that the C "
            "library keeps. The first training in this store says how much"
        )
    if device.name == "cuda" and not device.present:
        yield "counted for a GPU on a machine without one: its kernels may hold other memory"
    if recipe.training.torch_compile:
        yield "torch.compile plans memory its own way: the estimate is of the plain model"
    if recipe.head is not None:
        yield (
            "head: the language model is counted, and the classification head is not; a head "
            "takes less, since nothing is projected to the vocabulary"
        )
    if recipe.dpo is not None:
        yield "dpo: this is the supervised fine-tuning before it; the plan has its own peak"
    if recipe.grpo is not None:
        yield "grpo: this is the supervised fine-tuning before it; the plan has its own peak"
