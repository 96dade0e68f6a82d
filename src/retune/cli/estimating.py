"""`retune estimate`: memory, time and cost of a training before it is paid for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.consoles import open_console
from retune.cli.memory_tables import as_mapping as plan_as_mapping
from retune.cli.memory_tables import print_plan
from retune.commands import set_options
from retune.errors import ConfigError
from retune.inputs import locate_inputs
from retune.machine import DeviceName
from retune.pages.numbers import show_bytes
from retune.preflight.forecast import TrainingForecast, say_fit
from retune.recipe.loading import load_recipe
from retune.recipe.recipe import Recipe

_BAR = 32
_HOUR = 3600.0


def estimate_recipe(
    recipe: Path, overrides: Sequence[str], *, device: str | None, timed: bool, as_json: bool
) -> None:
    """Print what a recipe's training will take; prepared rows are kept for the run.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.
        device: cpu or cuda; None for this machine's.
        timed: Whether a few real steps are run.
        as_json: Print one JSON object last, alone on standard output.

    Raises:
        RetuneError: The recipe's model or rows are wrong, or cannot be counted.
    """
    if device not in (None, "cpu", "cuda"):
        raise ConfigError(f"--device: {device} is neither cpu nor cuda.")
    from flows.preparing import prepare_job
    from tasks.estimating import forecast_training
    from tasks.runs.opening import prepare_run
    from tasks.starting import choose_start

    console = open_console(stderr=as_json)
    loaded = load_recipe(recipe, overrides)
    with console.status("preparing rows"):
        run = prepare_run(loaded, direct=True)
        job = choose_start(prepare_job(run, locate_inputs(loaded, with_weights=False)))
    with console.status("counting memory" + (", timing a few steps" if timed else "")):
        wanted = cast("DeviceName | None", device)
        found, plan = forecast_training(job, device=wanted, timed=timed)
    print_estimate(console, found, loaded.recipe)
    if plan is not None:
        print_plan(console, plan)
    if as_json:
        print(json.dumps({**as_mapping(found, loaded.recipe), "plan": plan_as_mapping(plan)}))


def print_estimate(console: Console, found: TrainingForecast, recipe: Recipe) -> None:
    """Print an estimate: parts with bars, fits or not, work, time and cost.

    Args:
        console: Where to.
        found: The forecast.
        recipe: For prices.
    """
    console.print(_parts_table(found))
    console.print(say_fit(found), style="green" if found.fits else "bold red", soft_wrap=True)
    for advice in found.advice:
        line = f"  {set_options(advice.overrides)}: {show_bytes(advice.peak_bytes)}"
        console.print(Text(line), soft_wrap=True)
    if not found.fits and not found.advice:
        console.print("  no single change was found with which it would fit")
    table = Table(show_header=False, box=None, padding=(0, 1))
    for name, text in _work_lines(found, recipe):
        table.add_row(name, Text(text))
    console.print(table)
    for note in found.notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)


def _parts_table(found: TrainingForecast) -> Table:
    memory = found.memory
    batch = f"{memory.batch.rows} rows x {memory.batch.tokens:,} tokens"
    table = Table(title=f"peak memory on {memory.device}, batch of {batch}", title_justify="left")
    for column, side in (("part", "left"), ("bytes", "right"), ("", "left")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    most = max(1, *memory.parts().values())
    for name, size in memory.parts().items():
        table.add_row(name, show_bytes(size), "█" * round(size / most * _BAR))
    table.add_section()
    table.add_row("sum", show_bytes(memory.total), "")
    if found.calibration is not None:
        table.add_row(
            "calibrated", show_bytes(found.peak_bytes), f"above runtime x {found.calibration:.2f}"
        )
    return table


def _work_lines(found: TrainingForecast, recipe: Recipe) -> list[tuple[str, str]]:
    memory = found.memory
    share = memory.trainable_parameters / max(1, memory.total_parameters)
    lines = [
        (
            "parameters",
            f"{memory.trainable_parameters:,} of {memory.total_parameters:,} trained ({share:.2%})",
        ),
        ("work", f"{found.steps:,} steps, about {found.tokens:,} tokens"),
    ]
    times, seconds = found.times, found.seconds
    if times is None or seconds is None:
        return [*lines, ("time", "not measured: no steps were run")]
    text = f"{seconds:,.0f} s ({times.seconds_per_step:.2f} s per step, evaluations not included)"
    lines.append(("time", text))
    lines.append(("measured", f"{show_bytes(times.peak_memory_bytes)} in {times.steps} steps"))
    cost = _cost(found, recipe)
    if cost is not None:
        lines.append(("cost", f"{cost:,.2f} {recipe.device.currency}"))
    return lines


def _cost(found: TrainingForecast, recipe: Recipe) -> float | None:
    price = recipe.device.price_per_hour
    return None if price is None or found.seconds is None else found.seconds / _HOUR * price


def as_mapping(found: TrainingForecast, recipe: Recipe) -> dict[str, Any]:
    """Return an estimate as JSON has it, with what is derived from it."""
    return {
        **found.model_dump(mode="json"),
        "total_bytes": found.memory.total,
        "fits": found.fits,
        "seconds": found.seconds,
        "cost": _cost(found, recipe),
        "currency": recipe.device.currency,
    }
