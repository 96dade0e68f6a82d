"""Rows on which the loss in training is not a number, as broken rows have it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from trl import SFTTrainer

from retune.data.tables import read_rows
from retune.records import SideRef

Compute = Callable[..., Any]


def break_row(side: SideRef, place: int) -> tuple[str, Compute]:
    """Return a row's id, and `SFTTrainer.compute_loss` with NaN for each batch that holds it."""
    row = read_rows(side.folder / "rows.parquet")[place]
    ids = torch.tensor([*row["prompt_ids"], *row["answer_ids"]])
    compute: Compute = SFTTrainer.compute_loss

    def broken(self: Any, model: Any, batch: Any, *given: Any, **named: Any) -> Any:
        there = any(torch.equal(line[: len(ids)], ids) for line in batch["input_ids"])
        result = compute(self, model, batch, *given, **named)
        return result * math.nan if there and self.model.training else result

    return str(row["row_id"]), broken
