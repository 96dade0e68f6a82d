"""What an estimate says: memory by part, and whether it fits. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from retune.records import LOG_FOLDER, Record

ESTIMATED = "estimated.json"

HELD = ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "working")
"""What tensors are held for."""
PARTS = ("runtime", *HELD, "allocator")


class BatchShape(Record):
    """The largest batch that goes through the model at once."""

    rows: int
    tokens: int
    """Of each row: shorter ones are padded to the longest."""
    answer_tokens: int
    """Tokens of all rows that carry loss, and so are projected to the vocabulary."""


class MemoryEstimate(Record):
    """Bytes that are held at the moment when most are."""

    runtime: int
    """Python and its libraries: what the process holds before the model is loaded; 0 on a GPU."""
    weights: int
    """Weights that are not trained, with the scale factors of 4-bit ones."""
    adapter: int
    """Weights that are trained: the adapter, or all of them."""
    gradients: int
    """Their gradients."""
    optimizer: int
    """What the optimizer keeps of each trained weight."""
    activations: int
    """What the forward pass keeps for the backward pass, inputs and masks included."""
    logits: int
    """Projection to the vocabulary, and the loss."""
    working: int
    """What lives for a moment only: results that the next operation reads, unpacked 4-bit weights,
    activations that are computed again."""
    allocator: int
    """What the C library holds beside that: places of freed tensors that no later one fits in. 0 on
    a GPU, whose allocator is asked for what lives in it."""
    trainable_parameters: int
    total_parameters: int
    """All logical weights: a 4-bit one counts as one."""
    batch: BatchShape
    device: str
    """cpu or cuda: whose rules of dtype and attention were followed."""

    @property
    def total(self) -> int:
        """Return the peak."""
        return sum(self.parts().values())

    @property
    def above_runtime(self) -> int:
        """Return the peak without what the process holds before the model is loaded."""
        return self.total - self.runtime

    @property
    def live(self) -> int:
        """Return what tensors take at the highest moment."""
        return self.above_runtime - self.allocator

    def parts(self) -> dict[str, int]:
        """Return the bytes of each part."""
        return {name: int(getattr(self, name)) for name in PARTS}


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


class TrainingEstimate(Record):
    """What a training will take, before it is started."""

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
    times: StepTimes | None
    """None where no steps were run."""
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


def read_estimated(folder: Path) -> MemoryEstimate | None:
    """Read what a training was estimated to take.

    Args:
        folder: Artifact of a training.

    Returns:
        The estimate; None where none was made.
    """
    try:
        return MemoryEstimate.model_validate_json((folder / LOG_FOLDER / ESTIMATED).read_bytes())
    except (OSError, ValidationError):
        return None
