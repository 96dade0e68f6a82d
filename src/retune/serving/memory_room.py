"""Whether a second version fits beside the one that answers: measured there, and compared here."""

from __future__ import annotations

from typing import Literal

from retune.machine import GPU_CONTEXT_BYTES, find_free_ram, read_status
from retune.modeling.snapshots import weigh_model
from retune.serving.messages import Measured, ServedModel

Swap = Literal["auto", "beside", "drain"]
"""Whether a new version is loaded beside the old one, or in its place once that has answered what
it was asked; `auto`: beside where the memory holds both."""
_SPARE = 1.05
"""No two loads of a model take the same to the byte."""


def measure_memory(device: str) -> Measured:
    """Measure what this process holds, and what is left; of a GPU its own memory.

    Args:
        device: Kind of the device that the weights are on: ``cpu``, ``cuda``.
    """
    if device != "cuda":
        return Measured(held=read_status("VmHWM"), free=find_free_ram())
    import torch

    held = torch.cuda.max_memory_reserved() + GPU_CONTEXT_BYTES
    return Measured(held=held, free=torch.cuda.mem_get_info()[0])


def find_lack(measured: Measured, old: ServedModel, new: ServedModel) -> str:
    """Say what is missing for a second version beside the one that answers.

    The new one takes what the old one has taken, and as much more as its weights are larger.

    Args:
        measured: By the process of the old one.
        old: The version that answers.
        new: The one that is to take its place.

    Returns:
        A part of a sentence; empty where both fit.
    """
    larger = weigh_model(new.scored) / max(1, weigh_model(old.scored))
    needed = int(_SPARE * measured.held * max(1.0, larger))
    if needed <= measured.free:
        return ""
    return f"it needs about {_show(needed)} beside the other, and {_show(measured.free)} are free"


def _show(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
