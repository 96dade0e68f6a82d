"""`retune estimate`: memory, time and cost of a training before it is paid for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional, cast

import typer

from retune.errors import ConfigError
from retune.machine import DeviceName


def estimate(
    recipe: Annotated[Path, typer.Argument(help="The recipe's YAML file.", metavar="RECIPE")],
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads annotations at run time
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a setting."),
    ] = None,
    steps: Annotated[
        bool, typer.Option("--steps/--no-steps", help="Run and time a few real steps.")
    ] = True,
    device: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="cpu or cuda: count for another device than this machine's."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object last, on stdout.")
    ] = False,
) -> None:
    """Say what a training will take before it starts: memory by part, tokens, time, cost."""
    if device not in (None, "cpu", "cuda"):
        raise ConfigError(f"--device: {device} is neither cpu nor cuda.")
    from flows.preparing import prepare_job
    from retune.cli.consoles import open_console
    from retune.cli.estimates import as_mapping, print_estimate
    from retune.inputs import locate_inputs
    from retune.recipe.loading import load_recipe
    from tasks.estimating import forecast_training
    from tasks.running import prepare_run

    console = open_console(stderr=as_json)
    loaded = load_recipe(recipe, overrides or [])
    with console.status("preparing rows"):
        run = prepare_run(loaded, direct=True)
        job = prepare_job(run, locate_inputs(loaded, with_weights=False))
    with console.status("counting memory" + (", timing a few steps" if steps else "")):
        wanted = cast("DeviceName | None", device)
        found = forecast_training(job, device=wanted, timed=steps)
    print_estimate(console, found, loaded.recipe)
    if as_json:
        print(json.dumps(as_mapping(found, loaded.recipe)))
