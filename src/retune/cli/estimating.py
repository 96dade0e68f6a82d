"""`retune estimate`: memory, time and cost of a training before it is paid for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.consoles import open_console
from retune.cli.disk_tables import as_mapping as disk_as_mapping
from retune.cli.disk_tables import print_disk
from retune.cli.memory_tables import as_mapping as plan_as_mapping
from retune.cli.memory_tables import print_plan
from retune.commands import set_options
from retune.errors import ConfigError
from retune.inputs import locate_inputs
from retune.machine import DeviceName
from retune.modeling.memory.memory_estimate import BatchSearch
from retune.pages.numbers import show_bytes
from retune.preflight.devices import plan_recipe_devices, share_rows
from retune.preflight.forecast import TrainingForecast, say_fit
from retune.recipe.loading import load_recipe
from retune.recipe.recipe import Recipe

_BAR = 32
_HOUR = 3600.0


@dataclass(frozen=True)
class Asked:
    """What is asked about a training.

    Attributes:
        device: cpu or cuda; None for this machine's.
        timed: Whether a few real steps are run.
        find_batch: Whether the largest batch is looked for.
    """

    device: str | None = None
    timed: bool = True
    find_batch: bool = False


def estimate_recipe(recipe: Path, overrides: Sequence[str], asked: Asked, *, as_json: bool) -> None:
    """Print what a recipe's training will take; prepared rows are kept for the run.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.
        asked: What about it.
        as_json: Print one JSON object last, alone on standard output.

    Raises:
        RetuneError: The recipe's model or rows are wrong, or cannot be counted.
    """
    if asked.device not in (None, "cpu", "cuda"):
        raise ConfigError(f"--device: {asked.device} is neither cpu nor cuda.")
    from flows.preparing import prepare_job
    from tasks.estimating import find_batch, forecast_training
    from tasks.foreseeing import plan_disk
    from tasks.runs.opening import prepare_run
    from tasks.starting import choose_start

    console = open_console(stderr=as_json)
    loaded = load_recipe(recipe, overrides)
    with console.status("preparing rows"):
        run = prepare_run(loaded, direct=True)
        job = choose_start(prepare_job(run, locate_inputs(loaded, with_weights=False)))
    with console.status("counting memory" + (", timing a few steps" if asked.timed else "")):
        wanted = cast("DeviceName | None", asked.device)
        found, plan = forecast_training(job, device=wanted, timed=asked.timed)
    disk = plan_disk(job, found, wanted)
    batches = None
    if asked.find_batch:
        with console.status("looking for the largest batch"):
            batches = find_batch(job, found, device=wanted)
    print_estimate(console, found, loaded.recipe)
    if plan is not None:
        print_plan(console, plan)
    if disk is not None:
        print_disk(console, disk)
    if batches is not None:
        print_batches(console, batches, found, loaded.recipe)
    if as_json:
        told = {**as_mapping(found, loaded.recipe), "plan": plan_as_mapping(plan)}
        if disk is not None:
            told["disk"] = disk_as_mapping(disk)
        if batches is not None:
            told["batches"] = batches.model_dump(mode="json", exclude={"digest"})
        print(json.dumps(told))


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


def print_batches(
    console: Console, batches: BatchSearch, found: TrainingForecast, recipe: Recipe
) -> None:
    """Print which batches were tried, and what to write into the recipe.

    Args:
        console: Where to.
        batches: The search.
        found: The forecast, for the device's memory.
        recipe: Whose batch is to be held.
    """
    table = Table(title=f"rows of {batches.tokens:,} tokens at once", title_justify="left")
    for column in ("rows", "peak", ""):
        table.add_column(column, justify="right")
    for each in batches.tried:
        fits = each.rows <= batches.largest
        style = "green" if fits else "red"
        mark = Text("fits" if fits else "does not fit", style=style)
        table.add_row(f"{each.rows:,}", show_bytes(each.peak_bytes), mark)
    console.print(table)
    console.print(Text(say_batch(batches, found, recipe)), soft_wrap=True)


def say_batch(batches: BatchSearch, found: TrainingForecast, recipe: Recipe) -> str:
    """Say in how many parts a step must go through a device, its rows unchanged."""
    has, size = show_bytes(found.capacity_bytes), recipe.training.batch_size
    if not batches.largest:
        return f"not one row fits {has}: see what would help above, or lower prompt.max_length"
    most = f"at most {batches.largest:,} rows fit {has} at once"
    ways = [parts for parts in range(1, size + 1) if size % parts == 0]
    parts = next(parts for parts in ways if _rows_at_once(recipe, parts) <= batches.largest)
    now = recipe.training.gradient_accumulation
    told = f"training.gradient_accumulation={parts} takes the {size} rows of a step"
    return f"{most}: {told}" + (", as the recipe has it" if parts == now else f" (now {now})")


def _rows_at_once(recipe: Recipe, parts: int) -> int:
    training = recipe.training.model_copy(update={"gradient_accumulation": parts})
    plan = plan_recipe_devices(recipe)
    return share_rows(training, plan.count, kind=plan.kind).rows_per_pass


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
