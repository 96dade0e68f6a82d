"""`retune estimate`: memory, time and cost of a training before it is paid for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from retune.errors import ConfigError


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
    from retune.cli.consoles import open_console
    from retune.cli.estimates import as_mapping, estimate_run, prepare, print_estimate
    from retune.recipe.loading import load_recipe

    console = open_console(stderr=as_json)
    loaded = load_recipe(recipe, overrides or [])
    with console.status("preparing rows"):
        run, source, data = prepare(loaded)
    with console.status("counting memory" + (", timing a few steps" if steps else "")):
        found = estimate_run(run, source, data, timed=steps, device=device)
    print_estimate(console, found, loaded.recipe)
    if as_json:
        print(json.dumps(as_mapping(found, loaded.recipe)))
