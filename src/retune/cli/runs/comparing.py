"""`retune compare` and `retune sweep`: trials in a terminal, and what each costs and gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.runs.flow_runs import run_flow
from retune.pages.numbers import ABSENT, show_count
from retune.scoring import showing
from retune.trials import page
from retune.trials.checking import Runner, check_inputs, check_runner, choose_spreading
from retune.trials.results import ComparedTrial, TrialComparison
from retune.trials.space import plan_grid, probe_points, read_axes
from retune.trials.study import Search, check_search
from retune.trials.trials import load_trials, plan_methods

_VERDICT_STYLES = {"best figure": "bold green", "worse": "red", "failed": "red"}


def compare_methods(
    recipe: Path,
    methods: Sequence[str],
    overrides: Sequence[str],
    *,
    stop_hopeless: bool,
    runner: Runner | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Run the flow `compare` and print what came of it; arguments as the flow's.

    Raises:
        RetuneError: Whatever stopped the comparison.
    """
    # What is wrong or missing is said before anything is started.
    planned = plan_methods(recipe, list(methods), list(overrides))
    check_runner(choose_spreading(planned[0].loaded.recipe.runner, runner, workers))
    check_inputs(planned)
    arguments = {
        "recipe": recipe.absolute(),
        "methods": list(methods),
        "overrides": list(overrides),
        "stop_hopeless": stop_hopeless,
        "runner": runner,
        "workers": workers,
    }
    run_flow("flows.compare:compare", arguments, show_trials, as_json=as_json)


def sweep_settings(
    recipe: Path,
    grid: Sequence[str],
    ranges: Sequence[str],
    overrides: Sequence[str],
    *,
    search: Search | None,
    trials: int | None,
    stop_hopeless: bool,
    runner: Runner | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Run the flow `sweep` and print what came of it; arguments as the flow's.

    Raises:
        RetuneError: Whatever stopped the sweep.
    """
    shared, axes = list(overrides), read_axes(list(grid), list(ranges))
    check_search(search, trials)
    planned = load_trials(recipe, probe_points(axes, shared) if search else plan_grid(axes, shared))
    check_runner(choose_spreading(planned[0].loaded.recipe.runner, runner, workers))
    check_inputs(planned)
    arguments = {
        "recipe": recipe.absolute(),
        "grid": list(grid),
        "ranges": list(ranges),
        "search": search,
        "trials": trials,
        "overrides": shared,
        "stop_hopeless": stop_hopeless,
        "runner": runner,
        "workers": workers,
    }
    run_flow("flows.compare:sweep", arguments, show_trials, as_json=as_json)


def show_trials(console: Console, comparison: TrialComparison) -> None:
    """Print the table of all trials, what to know of it, and where the pages lie."""
    console.print()
    console.print(_table(comparison))
    for each in comparison.trials:
        if each.result.reason:
            told = f"  {each.result.name}, {each.result.state}: {each.result.reason}"
            console.print(Text(told, style=_VERDICT_STYLES.get(each.result.state, "yellow")))
    for note in comparison.notes:
        console.print(Text(f"note: {note}", style="yellow"))
    page = comparison.folder / "compare.html"
    console.print(Text(f"Report: {page}"), soft_wrap=True)


def _table(comparison: TrialComparison) -> Table:
    table = Table(
        title=Text(f"{comparison.recipe}: {comparison.rows} validation rows, 95 % intervals"),
        show_lines=True,
    )
    priced = any(each.price is not None for each in comparison.trials)
    heads = ["trial", showing.label_of(comparison.metric), "against the best", "peak memory, time"]
    heads += ["trainable", "tokens", *(["cost"] if priced else [])]
    for place, head in enumerate(heads):
        side: Literal["left", "right"] = "left" if place in (0, 2) else "right"
        table.add_column(Text(head), justify=side, overflow="fold")
    for each in comparison.trials:
        table.add_row(*_cells(comparison, each, priced=priced))
    table.caption = Text(
        f"* Pareto set: {', '.join(comparison.counts)}; = trained by an earlier run"
    )
    return table


def _cells(comparison: TrialComparison, each: ComparedTrial, *, priced: bool) -> Sequence[Text]:
    verdict = page.show_verdict(comparison, each)
    parameters = Text(show_count(each.result.trainable_parameters))
    cells = [
        _name(each),
        _figure(comparison, each),
        Text(verdict, style=_VERDICT_STYLES.get(verdict, "")),
        Text(page.show_memory(each)).append(f"\n{page.show_time(each)}"),
        parameters.append(f"\n{page.show_share(each)}", style="dim"),
        Text(show_count(each.result.cost.tokens if each.result.cost else None)),
        *([Text(page.show_price(comparison, each))] if priced else []),
    ]
    if each.against_best is not None:
        # Its interval stands on the page; here it would break every line in three.
        told = showing.show_difference(each.against_best).partition(" [")[0]
        cells[2].append(f"\n{told}", style="dim")
    return cells


def _name(each: ComparedTrial) -> Text:
    marks = f"{' *' if each.pareto else ''}{' =' if each.result.reused else ''}"
    name = Text(each.result.name, style="bold").append(marks, style="bold yellow")
    return name.append(f"\nrate {each.result.learning_rate:g}", style="not bold dim")


def _figure(comparison: TrialComparison, each: ComparedTrial) -> Text:
    found = each.metrics.get(comparison.metric)
    if found is None:
        return Text(ABSENT)
    if found.low is None or found.high is None:
        return Text(showing.show_value(comparison.metric, found.value), style="bold")
    scale, places = (100, 1) if showing.is_rate(comparison.metric) else (1, 3)
    interval = " to ".join(f"{scale * end:.{places}f}" for end in (found.low, found.high))
    text = Text(showing.show_value(comparison.metric, found.value), style="bold")
    return text.append(f"\n{interval}", style="not bold dim")
