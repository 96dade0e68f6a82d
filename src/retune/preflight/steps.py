"""How many optimizer steps a training takes, and which rows share a sequence."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence

from retune.data.tables import count_rows, iterate_rows
from retune.recipe.sections import TrainingConfig
from retune.records import SideRef


def count_steps(rows: int, training: TrainingConfig) -> int:
    """Return the optimizer steps that a training will take.

    Args:
        rows: Training rows; packed sequences where rows are packed (`count_sequences`).
        training: Steps, or epochs and batch size.

    Returns:
        `max_steps` where set, else ``ceil(epochs * ceil(rows / batch_size))``.
    """
    if training.max_steps is not None:
        return training.max_steps
    return math.ceil(training.epochs * math.ceil(rows / training.batch_size))


def count_sequences(side: SideRef, training: TrainingConfig, max_length: int) -> int:
    """Return how many sequences a side's rows make: one each, or fewer where rows are packed.

    Args:
        side: The rows to learn from.
        training: Whether rows are packed.
        max_length: Most tokens of a packed sequence.

    Returns:
        What `count_steps` counts.
    """
    path = side.folder / "rows.parquet"
    if not training.packing:
        return count_rows(path)
    rows = iterate_rows(path, ["prompt_ids", "answer_ids"])
    lengths = [len(row["prompt_ids"]) + len(row["answer_ids"]) for row in rows]
    return len(plan_packs(lengths, max_length))


def plan_packs(lengths: Sequence[int], max_length: int) -> list[list[int]]:
    """Choose which rows share a sequence: best fit, the longest first.

    Args:
        lengths: Tokens of each row.
        max_length: Most tokens of a sequence; a longer row stays alone.

    Returns:
        Places of rows by sequence. Each row goes where the least room is left that it fits into.
    """
    packs: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # room left and number of each sequence, sorted
    for place in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        fitting = bisect_left(rooms, (lengths[place], 0))
        if fitting == len(rooms):
            room, number = max_length, len(packs)
            packs.append([])
        else:
            room, number = rooms.pop(fitting)
        packs[number].append(place)
        insort(rooms, (room - lengths[place], number))
    return packs
