"""What a run will write to the store's disk, as a table and as JSON has it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.pages.numbers import show_bytes
from retune.preflight.disk_plan import DiskPlan, say_disk


def print_disk(console: Console, plan: DiskPlan) -> None:
    """Print what each stage that has to run will write, and whether that fits.

    Args:
        console: Where to.
        plan: The plan.
    """
    if plan.stages:
        table = Table(title="disk of each stage that has to run", title_justify="left")
        table.add_column("stage")
        for column in ("stays", "until it has ended"):
            table.add_column(column, justify="right")
        table.add_column("")
        for each in plan.stages:
            passing = show_bytes(each.passing) if each.passing else ""
            table.add_row(each.stage, show_bytes(each.stays), passing, Text(each.what))
        console.print(table)
    style = "" if plan.fits else "bold red"
    console.print(Text(f"disk      {say_disk(plan)}", style=style), soft_wrap=True)


def as_mapping(plan: DiskPlan) -> dict[str, Any]:
    """Return a plan as JSON has it, with what is derived from it."""
    return {
        **plan.model_dump(mode="json"),
        "needed_bytes": plan.needed_bytes,
        "fits": plan.fits,
    }
