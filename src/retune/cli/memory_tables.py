"""The plan of memory of a run's stages, as a table and as JSON has it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from retune.pages.numbers import show_bytes
from retune.preflight.memory_plan import MemoryPlan, StagePlan


def print_plan(console: Console, plan: MemoryPlan) -> None:
    """Print what each stage takes, in which form and where it holds its model.

    Args:
        console: Where to.
        plan: The plan.
    """
    room = plan.room
    on_gpu = room.kind != "cpu"
    spread = f", training on {plan.devices} devices" if plan.devices > 1 else ""
    has = f"{show_bytes(room.device)} on the device, " if on_gpu else ""
    table = Table(
        title=f"peak memory of each stage: {has}{show_bytes(room.ram)} of RAM{spread}",
        title_justify="left",
    )
    table.add_column("stage")
    if on_gpu:
        table.add_column("device", justify="right")
    table.add_column("RAM", justify="right")
    for name in ("form", "placement", ""):
        table.add_column(name)
    for stage in plan.stages:
        table.add_row(*_cells(stage, on_gpu=on_gpu), style=None if stage.fits else "bold red")
    console.print(table)


def _cells(stage: StagePlan, *, on_gpu: bool) -> list[str]:
    held = stage.held
    device = [show_bytes(held.device_bytes)] if on_gpu else []
    fits = "" if stage.fits else "does not fit"
    return [stage.stage, *device, show_bytes(held.ram_bytes), held.form, held.placement, fits]


def as_mapping(plan: MemoryPlan | None) -> dict[str, Any] | None:
    """Return a plan as JSON has it; None for none."""
    if plan is None:
        return None
    return {
        "form": plan.form,
        "fits": plan.fits,
        "device_bytes": plan.room.device,
        "ram_bytes": plan.room.ram,
        "stages": [
            {
                "stage": each.stage,
                "form": each.held.form,
                "placement": each.held.placement,
                "device_bytes": each.held.device_bytes,
                "ram_bytes": each.held.ram_bytes,
                "fits": each.fits,
            }
            for each in plan.stages
        ],
    }
