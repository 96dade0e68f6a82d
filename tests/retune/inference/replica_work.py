"""Work for replicas that hold no real model: what their processes import is what takes the time."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from retune.errors import ConfigError
from retune.model_records import ScoredModel


def load_if_there(scored: ScoredModel) -> torch.nn.Module:
    """Load a model of no weights, which its folder alone has to be there for."""
    if not scored.weights.is_dir():
        raise ConfigError(f"{scored.weights}: is not there.")
    return torch.nn.Identity()


def say_who(_: Any, batch: Sequence[str]) -> list[tuple[int, int]]:
    """Return the process that computes, and how many threads it has."""
    return [(os.getpid(), torch.get_num_threads())] * len(batch)


def note(_: Any, batch: Sequence[tuple[Path, Path | None]]) -> list[None]:
    """Write each file of a batch, once another one is there if one is named."""
    for path, awaited in batch:
        while awaited is not None and not awaited.exists():
            time.sleep(0.01)
        path.write_text("computed", "utf-8")
    return [None] * len(batch)
