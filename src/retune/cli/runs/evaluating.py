"""`retune evaluate`: any models side by side in a terminal, on a recipe's held-out rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.runs.flow_runs import run_flow
from retune.errors import ConfigError
from retune.inference.elsewhere import TOKEN_SECONDS
from retune.inference.engine_address import read_engine_address, read_engine_key
from retune.inputs import locate_inputs
from retune.pages.numbers import ABSENT
from retune.recipe.loading import load_recipe
from retune.recipe.sections.prompt import Effort
from retune.release.comparing import Figure, ModelComparison, metric_names
from retune.scoring import showing
from retune.serving.messages import RemoteSettings

_VERDICT_STYLES = {"better": "green", "worse": "red", "undecided": "dim"}


def evaluate_models(
    recipe: Path,
    models: Sequence[str],
    overrides: Sequence[str],
    *,
    out: Path | None,
    efforts: Sequence[Effort],
    engine: RemoteSettings | None,
    also_here: bool,
    as_json: bool,
) -> None:
    """Score models side by side and print how they compare.

    Args:
        recipe: The recipe's file.
        models: As a person names them; all are compared with the first.
        overrides: Settings that win over the recipe.
        out: Folder of the pages; None for one below the store's reports.
        efforts: How much each model shall think, side by side.
        engine: The server that writes the models' answers; None for this machine.
        also_here: Score them on this machine too.
        as_json: Print one JSON object last, alone on standard output.

    Raises:
        RetuneError: The recipe or a model is wrong, or a stage failed.
    """
    # What is wrong or missing is said before anything is started.
    locate_inputs(load_recipe(recipe, overrides), with_weights=False)
    arguments = {
        "recipe": recipe.absolute(),
        "models": list(models),
        "overrides": list(overrides),
        "out": out.absolute() if out else None,
        "efforts": list(efforts),
        "engine": engine,
        "also_here": also_here,
    }
    run_flow("flows.evaluating:evaluate", arguments, show_comparison, as_json=as_json)


def read_efforts(text: str) -> list[Effort]:
    """Read a list of efforts with commas between them.

    Args:
        text: Such as ``low,high``.

    Raises:
        ConfigError: One is none.
    """
    known = get_args(Effort)
    named = [each.strip() for each in text.split(",")]
    found = [each for each in known if each in named]
    wrong = [each for each in named if each not in known]
    if wrong or len(found) < len(named):
        raise ConfigError(
            f"--effort: found {text!r}; expected one or more of {', '.join(known)}, each once, "
            "with commas between them."
        )
    return sorted(found, key=named.index)


def read_engine(
    address: str | None, model: str | None, *, also_here: bool
) -> RemoteSettings | None:
    """Read which engine is asked.

    Args:
        address: As a person wrote it; None for none.
        model: What it calls the model; None where each has its own name.
        also_here: Whether models are scored on this machine too.

    Raises:
        ConfigError: It is no address, the key for it cannot be sent, or an option needs an engine.
    """
    if address is None:
        named = {"--engine-model": model is not None, "--also-here": also_here}
        for option in (name for name, given in named.items() if given):
            raise ConfigError(f"{option} is about an engine: say which with --engine ADDRESS.")
        return None
    read_engine_key(os.environ)
    return RemoteSettings(address=read_engine_address(address), model=model, seconds=TOKEN_SECONDS)


def show_comparison(console: Console, comparison: ModelComparison) -> None:
    """Print the table of all models, the verdicts, and where the pages lie."""
    console.print()
    console.print(_figures_table(comparison))
    if comparison.comparisons:
        console.print(_verdicts_table(comparison))
    for note in comparison.notes:
        console.print(Text(f"note: {note}", style="yellow"))
    page = comparison.folder / "comparison.html"
    console.print(Text(f"Report: {page}"), soft_wrap=True)


def _figures_table(comparison: ModelComparison) -> Table:
    table = Table(
        title=Text(f"{comparison.recipe}: {comparison.rows} held-out rows, 95 % intervals"),
        show_lines=True,
    )
    table.add_column("")
    for model in comparison.models:
        table.add_column(Text(model.name), justify="right", overflow="fold")
    for name in metric_names(comparison)[0]:
        figures = [model.metrics.get(name) for model in comparison.models]
        table.add_row(Text(showing.label_of(name)), *(_cell(name, each) for each in figures))
    return table


def _cell(name: str, figure: Figure | None) -> Text:
    if figure is None:
        return Text(ABSENT)
    unscored = f", {figure.unscored} unscored" if figure.unscored else ""
    if figure.value is None:
        return Text(f"not scored{unscored}")
    interval = showing.show_interval(name, figure.low, figure.high)
    text = Text(showing.show_value(name, figure.value), style="bold")
    return text.append(f"\n{interval}{unscored}", style="not bold dim")


def _verdicts_table(comparison: ModelComparison) -> Table:
    table = Table(title=Text(f"Against {comparison.models[0].name}, row by row"))
    for column in ("model", "metric", "difference", "verdict"):
        table.add_column(column, overflow="fold")
    for each in comparison.comparisons:
        table.add_row(
            Text(each.model),
            Text(showing.label_of(each.metric)),
            Text(showing.show_difference(each)),
            Text(each.verdict, style=_VERDICT_STYLES[each.verdict]),
        )
    return table
