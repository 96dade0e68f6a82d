"""What a training took, as its artifact says. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from retune.records import LOG_FOLDER, Record

MEASURED = "measured.json"


class Measured(Record):
    """What one training took; a resumed one says what it took since it was resumed."""

    device: str
    """cpu or cuda."""
    devices: int = 1
    """That trained together; what is measured is the first one's process and memory, but tokens are
    those of all."""
    seconds: float
    """Wall time, evaluations and checkpoints included."""
    memory_before_bytes: int
    """Held when training began, the model loaded: of the process on a CPU, of the allocator on a
    GPU."""
    model_bytes: int
    """Of it, what the model's tensors take: weights, adapter, scales. The rest are libraries and
    what earlier work left behind."""
    peak_memory_bytes: int
    """Most that was held at once while it trained, of the same."""
    steps: int
    """Optimizer steps that were run, not planned."""
    tokens: int
    """Real tokens (no padding) that went through the model to be learned from; evaluations are not
    in it."""
    resumed: bool
    """Whether it went on from a checkpoint of an earlier training."""

    @property
    def runtime_bytes(self) -> int:
        """Return what was held beside the model before training."""
        return self.memory_before_bytes - self.model_bytes

    @property
    def training_bytes(self) -> int:
        """Return the peak without what was held beside the model before training."""
        return self.peak_memory_bytes - self.runtime_bytes


def read_measured(folder: Path) -> Measured | None:
    """Read what a training took.

    Args:
        folder: Artifact of a training.

    Returns:
        The figures; None where there are none, as in artifacts from before they were measured.
    """
    try:
        return Measured.model_validate_json((folder / LOG_FOLDER / MEASURED).read_bytes())
    except (OSError, ValidationError):
        return None
