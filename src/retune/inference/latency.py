"""How long answers take, or the naming of a class, and on what that was measured.

A row's seconds are its share of the batches that it was in: the time of a batch divided by its
rows, over all rounds of `generation.write_answers`. Their mean is the time of the whole batch run
divided by its rows, which is what a batch job waits for; one request on its own takes longer. Rows
of a batch end together, so that it is batches, and not rows, that times are independent over.
An engine elsewhere makes its batches itself: there a row's seconds are its share of the time of
all, by its tokens. A class named by likelihood takes a pass for each label, and its time is that
of all of them.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from retune.inference.generation import Answer
from retune.inference.loaded_models import LoadedModel
from retune.inference.replicas import count_replicas
from retune.inference.thinking import count_thinking


class BatchTimes:
    """Adds up the time of batches by row.

    Args:
        rows: What is batched, in its order.
        parts: Consecutive places that each of them has there.
    """

    def __init__(self, rows: Sequence[int], parts: int = 1) -> None:
        self._rows = [row for row in rows for _ in range(parts)]
        self._seconds: dict[int, float] = {}
        self._batches: dict[int, int] = {}
        self._batch = 0

    def __call__(self, places: Sequence[int], seconds: float) -> None:
        """Take in a batch: the places that it had, and how long it took."""
        for row in (self._rows[place] for place in places):
            self._seconds[row] = self._seconds.get(row, 0.0) + seconds / len(places)
            self._batches.setdefault(row, self._batch)
        self._batch += 1

    def stamp(self, row: int, answer: Answer) -> Answer:
        """Return a row's answer with its share of all its batches, and the first of these."""
        return replace(answer, seconds=self._seconds[row], batch=self._batches[row])


def write_latency(
    path: Path, loaded: LoadedModel, answers: Mapping[str, Answer], *, batch_size: int
) -> None:
    """Write how long each answer took and is, on which devices, held where, in which batches.

    Args:
        path: The JSON file; its folder is made.
        loaded: The model that wrote.
        answers: By row; those without a text took no time.
        batch_size: Prompts per batch.
    """
    path.parent.mkdir(exist_ok=True)
    measured = {
        "device": _name_place(loaded),
        "batch_size": batch_size,
        "placement": loaded.placement,
        "devices": count_replicas(loaded.model),
    }
    latency = {
        "measured": measured,
        "rows": {
            row: {
                "seconds": answer.seconds,
                "batch": answer.batch,
                "tokens": answer.tokens,
                "thinking_tokens": count_thinking(loaded.tokenizer, answer.ids),
            }
            for row, answer in answers.items()
            if answer.text is not None
        },
    }
    text = json.dumps(latency, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def _name_place(loaded: LoadedModel) -> str:
    if loaded.engine is not None:
        return f"engine: {loaded.engine.address}"
    return name_device(loaded.model.device)


def name_device(device: torch.device) -> str:
    """Name a device so that times on two of the same name can be compared.

    Args:
        device: Where a model lies.
    """
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    name = platform.processor() or platform.machine()
    return f"{device.type}: {name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
