"""What an estimate says: memory by part, and what would need less. Needs no torch."""

from __future__ import annotations

from retune.records import ContentRecord, Record

HELD = ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "working")
"""What tensors are held for."""
PARTS = ("runtime", *HELD)


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
    """What a process holds before the model is loaded: Python and its libraries, on a GPU what CUDA
    takes of it."""
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
        """Return what tensors take at the highest moment."""
        return self.total - self.runtime

    def parts(self) -> dict[str, int]:
        """Return the bytes of each part."""
        return {name: int(getattr(self, name)) for name in PARTS}


class Alternative(Record):
    """A change of settings, and the memory of a training with it."""

    overrides: tuple[str, ...]
    memory: MemoryEstimate


class TrainingEstimate(ContentRecord):
    """What a training needs, whatever the machine has that it will run on."""

    memory: MemoryEstimate | None
    """None where it cannot be counted; the training itself may well run."""
    fault: str = ""
    """Why it cannot."""
    alternatives: tuple[Alternative, ...] = ()
    """Changes that may need less, where they were asked for."""


class TriedBatch(Record):
    """Rows of a pass, and the peak of a training with as many."""

    rows: int
    peak_bytes: int


class BatchSearch(ContentRecord):
    """How many rows go through a device at once."""

    largest: int = 0
    """The most that fit; 0 where not even one does. No more than the training side has."""
    tokens: int = 0
    """Of each row: the longest one's."""
    tried: tuple[TriedBatch, ...] = ()
    """By rows; nothing where it cannot be counted."""
    fault: str = ""
    """Why it cannot."""


class FurtherEstimates(ContentRecord):
    """What the trainings need that go on from a first one; None where there is none."""

    preferences: MemoryEstimate | None = None
    rewards: MemoryEstimate | None = None
    fault: str = ""
    """Why one that there is could not be counted."""
