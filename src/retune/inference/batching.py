"""Padding a batch, and running it in halves where memory does not do for it whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch

from retune.errors import OutOfMemory

Item = TypeVar("Item")
Result = TypeVar("Result")
PaddingSide = Literal["left", "right"]

# A CPU's allocator raises no class of its own.
_CPU_WORDS = ("not enough memory", "can't allocate memory", "cannot allocate memory")


def pad_sequences(
    sequences: Sequence[Sequence[int]], pad_id: int, side: PaddingSide
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad sequences to one length.

    Args:
        sequences: Token ids per row.
        pad_id: Id written into the padding; masked, so that any id does.
        side: Where the padding goes.

    Returns:
        Ids and attention mask, both ``(rows, longest)``.
    """
    longest = max(len(sequence) for sequence in sequences)
    ids = torch.full((len(sequences), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(sequences), longest), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        start = longest - len(sequence) if side == "left" else 0
        ids[row, start : start + len(sequence)] = torch.tensor(list(sequence))
        mask[row, start : start + len(sequence)] = 1
    return ids, mask


def run_in_halves(
    batch: Sequence[Item], compute: Callable[[Sequence[Item]], list[Result]]
) -> list[Result]:
    """Compute a batch; one that runs out of memory is split until its parts fit.

    Args:
        batch: At least one item.
        compute: Returns one result per item, in their order; what it allocated is free again when
            it raises.

    Returns:
        One result per item, in their order.

    Raises:
        torch.OutOfMemoryError: A single item does not fit (a RuntimeError on a CPU).
    """
    try:
        return compute(batch)
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if len(batch) == 1 or not is_out_of_memory(error):
            raise
    # Outside of the handler: inside, the traceback would hold the failed batch's tensors.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(batch) // 2
    return run_in_halves(batch[:half], compute) + run_in_halves(batch[half:], compute)


@contextmanager
def telling_out_of_memory(kind: type[OutOfMemory] = OutOfMemory) -> Iterator[None]:
    """Turn an error that means that memory ran out into one that crosses process borders.

    Args:
        kind: Of that error: what asked for memory in the block.

    Raises:
        OutOfMemory: It ran out in the block.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        # Not from it: its traceback holds what fills the memory.
        raise kind(f"memory ran out ({str(error).splitlines()[0]:.300}).") from None


def is_out_of_memory(error: RuntimeError) -> bool:
    """Say whether an error means that memory ran out, on an accelerator or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(words in str(error).lower() for words in _CPU_WORDS)
