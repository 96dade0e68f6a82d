"""What a training took, beside its estimate: for the report, MLflow and calibration."""

from __future__ import annotations

from pathlib import Path

from retune.calibrating import add_calibration
from retune.model_records import AdapterRef
from retune.modeling.memory.memory_estimate import MemoryEstimate
from retune.pages.numbers import show_bytes
from retune.preflight.forecast import calibration_name
from retune.training.resource_record import Measured, read_measured


def describe_resources(adapter: AdapterRef, estimated: MemoryEstimate | None) -> dict[str, str]:
    """Say what a training took.

    Args:
        adapter: What was trained.
        estimated: What it was estimated to need; None where it was not.

    Returns:
        Label and text; empty where nothing was measured.
    """
    measured, estimated = _read(adapter, estimated)
    if measured is None:
        return {}
    beside = f" (estimated {show_bytes(estimated.total)})" if estimated else ""
    where = measured.device
    if measured.devices > 1:
        where = f"the first of {measured.devices} devices ({where})"
    since = " since it was resumed" if measured.resumed else ""
    return {
        "Peak memory": f"{show_bytes(measured.peak_memory_bytes)}{beside} on {where}",
        "Training took": f"{measured.seconds:,.1f} s for {measured.steps:,} steps and "
        f"{measured.tokens:,} tokens{since}",
    }


def resource_figures(adapter: AdapterRef, estimated: MemoryEstimate | None) -> dict[str, float]:
    """Return what a training took as numbers.

    Args:
        adapter: What was trained.
        estimated: What it was estimated to need; None where it was not.

    Returns:
        Figures by name; empty where nothing was measured.
    """
    measured, estimated = _read(adapter, estimated)
    if measured is None:
        return {}
    figures = {
        "training.seconds": measured.seconds,
        "training.tokens": float(measured.tokens),
        "training.peak_memory_bytes": float(measured.peak_memory_bytes),
    }
    if estimated is not None:
        figures["training.estimated_peak_memory_bytes"] = float(estimated.total)
        for name, size in estimated.parts().items():
            figures[f"training.estimated_bytes.{name}"] = float(size)
    return figures


def calibrate(store: Path, adapter: AdapterRef, estimated: MemoryEstimate | None) -> None:
    """Keep how far the estimate of a training was off, for those to come.

    One of several devices holds a share of the rows, and where it is sharded of the model: what it
    took says nothing of a training on one. Nor does what ran out of memory and was made smaller.

    Args:
        store: The store's root.
        adapter: What was trained.
        estimated: What it was estimated to need; None where it was not.
    """
    measured, estimated = _read(adapter, estimated)
    if measured is None or estimated is None or not measured.steps or measured.devices > 1:
        return
    if adapter.memory_rung is not None:
        return
    add_calibration(
        store,
        calibration_name(measured.device, adapter.kind),
        adapter.digest,
        measured=measured.training_bytes,
        estimated=estimated.above_runtime,
    )


def _read(
    adapter: AdapterRef, estimated: MemoryEstimate | None
) -> tuple[Measured | None, MemoryEstimate | None]:
    """Read what a training took; an estimate for another device than it ran on says nothing."""
    measured = read_measured(adapter.folder)
    if measured is None or estimated is None or measured.device != estimated.device:
        return measured, None
    return measured, estimated
