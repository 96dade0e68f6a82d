"""`retune reproduce`: a version made again, and whether it came out the same."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.runs.flow_runs import run_flow
from retune.inputs import locate_inputs
from retune.release.reproduction import Reproduction

_SHOWN = 12


def reproduce_version(
    name: str, version: int, *, recipe: Path | None, store: Path, into: Path | None, as_json: bool
) -> None:
    """Make a version again and print whether it is equal, or from where on it is not.

    Args:
        name: The registered model.
        version: Number of the version.
        recipe: A recipe that says where MLflow and the store are.
        store: Folder of the store, without a recipe.
        into: Folder of the fresh store; None for a temporary one.
        as_json: Print one JSON object last, alone on standard output.

    Raises:
        RetuneError: The version has no manifest, its sources have changed, or a stage failed.
        Exit: It is not equal; the code is 1.
    """
    from tasks.reproducing import check_sources, find_original, refuse_used_folder

    # What is wrong or missing is said before anything is started.
    refuse_used_folder(into)
    original = find_original(name, version, recipe=recipe, store=store)
    check_sources(original, locate_inputs(original.load(store)))
    found: list[Reproduction] = []

    def show(console: Console, result: Reproduction) -> None:
        found.append(result)
        show_reproduction(console, result)

    arguments = {
        "model_name": name,
        "version": version,
        "recipe": recipe.absolute() if recipe else None,
        "store": store.absolute(),
        "into": into.absolute() if into else None,
    }
    run_flow("flows.reproducing:reproduce", arguments, show, as_json=as_json)
    if not found[0].equal:
        raise typer.Exit(1)


def show_reproduction(console: Console, result: Reproduction) -> None:
    """Print the verdict, where it differs and how far, and what else is not as it was."""
    called = f"{result.model_name} version {result.version}"
    console.print()
    if result.equal:
        verdict = f"{called}: equal, the released model and all {len(result.stages)} stages."
        console.print(Text(verdict, style="bold green"))
    else:
        since = result.differs_from or "the released model"
        console.print(Text(f"{called}: different from {since} on.", style="bold red"))
        console.print(_differences(result))
    for note in result.notes:
        console.print(Text(f"  note: {note}", style="yellow"), soft_wrap=True)
    if result.store is not None:
        console.print(Text(f"Stages: {result.store}"), soft_wrap=True)


def _differences(result: Reproduction) -> Table:
    table = Table(show_header=True)
    for column in ("what", "then", "now"):
        table.add_column(column, overflow="fold")
    for stage in result.stages:
        if not stage.equal:
            given = "the same" if stage.same_question else "other inputs, settings or libraries"
            table.add_row(Text(stage.label), "", Text(f"other content, given {given}"))
    for pair in result.figures[:_SHOWN]:
        table.add_row(Text(pair.name), _number(pair.then), _number(pair.now))
    if len(result.figures) > _SHOWN:
        table.add_row(f"{len(result.figures) - _SHOWN} more figures", "", "see --json")
    if result.largest_weight_difference is not None:
        table.add_row("largest difference of a weight", "", f"{result.largest_weight_difference:g}")
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
