"""How long the training rows are, and the largest batch that they make."""

from __future__ import annotations

import math

from retune.data.tables import iterate_rows
from retune.modeling.memory.memory_estimate import BatchShape
from retune.records import SideRef


def row_lengths(side: SideRef) -> tuple[list[int], list[int]]:
    """Return the tokens of each row, and how many of them carry loss.

    Args:
        side: Prepared chats.

    Returns:
        Both in the order of the rows.
    """
    tokens, learned = [], []
    columns = ["prompt_ids", "answer_ids", "loss_mask"]
    for row in iterate_rows(side.folder / "rows.parquet", columns):
        tokens.append(len(row["prompt_ids"]) + len(row["answer_ids"]))
        mask = row["loss_mask"]
        learned.append(len(row["answer_ids"]) if mask is None else sum(mask))
    return tokens, learned


def largest_batch(
    tokens: list[int], learned: list[int], *, rows: int, packed_to: int | None = None
) -> BatchShape:
    """Return the shape of the largest batch of a training.

    In each pass over the rows some batch holds the longest row, and is padded to it. Which other
    rows stand in it is chance: the tokens that carry loss are as many as rows have on average.

    Args:
        tokens: Of each row.
        learned: Of them, those that carry loss.
        rows: That go through the device at once.
        packed_to: Length of packed sequences; None where rows are not packed.

    Returns:
        Rows and tokens; fewer rows where there are not as many.
    """
    share = sum(learned) / max(1, sum(tokens))
    if packed_to is not None:
        return BatchShape(
            rows=rows, tokens=packed_to, answer_tokens=max(1, math.ceil(rows * packed_to * share))
        )
    rows = min(rows, len(tokens)) or 1
    mean = sum(learned) / max(1, len(learned))
    return BatchShape(
        rows=rows, tokens=max(tokens, default=1), answer_tokens=max(1, math.ceil(mean * rows))
    )
