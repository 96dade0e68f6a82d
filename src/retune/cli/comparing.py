"""`retune compare` and `retune sweep`: trials in a terminal, and what each costs and gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from retune.trials.results import ComparedTrial, TrialComparison

_VERDICT_STYLES = {"best figure": "bold green", "worse": "red", "failed": "red"}


class RunnerName(StrEnum):
    """Task runners that spread trials."""

    dask = "dask"
    ray = "ray"


class SearchName(StrEnum):
    """Ways to draw points."""

    random = "random"
    tpe = "tpe"


RecipeArgument = Annotated[Path, typer.Argument(help="The recipe's YAML file.", metavar="RECIPE")]
SetOption = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads annotations at run time
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a setting of all trials."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object last, on stdout.")]
RunnerOption = Annotated[
    Optional[RunnerName],  # noqa: UP045
    typer.Option(help="Run trials at once, by a task runner; without it one by one."),
]
WorkersOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(help="Trials at once, with --runner; 2 unless stated."),
]
_STOP_HELP = "Stop a trial whose held-out loss falls behind the median of the finished ones."


def compare(
    recipe: RecipeArgument,
    methods: Annotated[
        str,
        typer.Option(help="full, lora, qlora, bottleneck, prefix, p_tuning, prompt, or variants."),
    ],
    overrides: SetOption = None,
    stop_hopeless: Annotated[
        bool, typer.Option("--stop-hopeless/--no-stop-hopeless", help=_STOP_HELP)
    ] = False,
    runner: RunnerOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train by several methods: quality, memory, time, parameters, tokens and cost of each."""
    from retune.trials.checking import check_inputs, check_runner
    from retune.trials.trials import plan_methods

    names, shared = methods.split(","), list(overrides or [])
    # What is wrong or missing is said before anything is started.
    check_runner(_value(runner), workers)
    check_inputs(plan_methods(recipe, names, shared))
    _run(
        lambda: _flow("compare")(
            recipe=recipe.absolute(),
            methods=names,
            overrides=shared,
            stop_hopeless=stop_hopeless,
            runner=_value(runner),
            workers=workers,
        ),
        as_json=as_json,
    )


def sweep(
    recipe: RecipeArgument,
    grid: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="KEY=A,B,C", help="Values of a setting: method.r=4,8,16"),
    ] = None,
    ranges: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--range",
            metavar="KEY=LOW..HIGH[:log]",
            help="Ends of a setting, for --search: training.learning_rate=1e-4..1e-2:log",
        ),
    ] = None,
    search: Annotated[
        Optional[SearchName],  # noqa: UP045
        typer.Option(help="Draw points instead of training all: random, or tpe (Optuna)."),
    ] = None,
    trials: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="How many points a search draws."),
    ] = None,
    overrides: SetOption = None,
    stop_hopeless: Annotated[
        bool, typer.Option("--stop-hopeless/--no-stop-hopeless", help=_STOP_HELP)
    ] = True,
    runner: RunnerOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train with many settings: every point of a grid, or points that a search draws."""
    from retune.trials.checking import check_inputs, check_runner
    from retune.trials.space import plan_grid, probe_points, read_axes
    from retune.trials.study import check_search
    from retune.trials.trials import load_trials

    shared = list(overrides or [])
    check_runner(_value(runner), workers)
    axes = read_axes(grid or [], ranges or [])
    check_search(_value(search), trials)
    points = probe_points(axes, shared) if search else plan_grid(axes, shared)
    check_inputs(load_trials(recipe, points))
    _run(
        lambda: _flow("sweep")(
            recipe=recipe.absolute(),
            grid=list(grid or []),
            ranges=list(ranges or []),
            search=_value(search),
            trials=trials,
            overrides=shared,
            stop_hopeless=stop_hopeless,
            runner=_value(runner),
            workers=workers,
        ),
        as_json=as_json,
    )


def _value(name: StrEnum | None) -> Any:
    return None if name is None else name.value


def _flow(name: str) -> Callable[..., dict[str, Any]]:
    import flows.compare as module

    found: Callable[..., dict[str, Any]] = getattr(module, name)
    return found


def _run(call: Callable[[], dict[str, Any]], *, as_json: bool) -> None:
    from retune.cli.consoles import open_console
    from retune.cli.interrupting import bound_interrupt
    from retune.cli.prefect_api import prepare_prefect
    from retune.cli.running import INTERRUPT_SECONDS
    from retune.cli.watching import TerminalWatcher
    from retune.trials.results import TrialComparison
    from retune.watching import WATCHER

    console = open_console(stderr=as_json)
    with console.status("starting Prefect"):
        prepare_prefect()
        _flow("compare")
    bound_interrupt(INTERRUPT_SECONDS)
    with TerminalWatcher(console) as watcher:
        WATCHER.set(watcher)
        result = call()
    show_trials(console, TrialComparison.model_validate_json(json.dumps(result)))
    if as_json:
        print(json.dumps(result))


def show_trials(console: Console, comparison: TrialComparison) -> None:
    """Print the table of all trials, what to know of it, and where the pages lie."""
    from rich.text import Text

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
    from rich.table import Table
    from rich.text import Text

    from retune.release.showing import label_of

    table = Table(
        title=Text(f"{comparison.recipe}: {comparison.rows} held-out rows, 95 % intervals"),
        show_lines=True,
    )
    priced = any(each.price is not None for each in comparison.trials)
    heads = ["trial", label_of(comparison.metric), "against the best", "peak memory, time"]
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
    from rich.text import Text

    from retune.pages.numbers import show_count
    from retune.release import showing
    from retune.trials import page

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
    from rich.text import Text

    marks = f"{' *' if each.pareto else ''}{' =' if each.result.reused else ''}"
    name = Text(each.result.name, style="bold").append(marks, style="bold yellow")
    return name.append(f"\nrate {each.result.learning_rate:g}", style="not bold dim")


def _figure(comparison: TrialComparison, each: ComparedTrial) -> Text:
    from rich.text import Text

    from retune.pages.numbers import ABSENT
    from retune.release import showing

    found = each.metrics.get(comparison.metric)
    if found is None:
        return Text(ABSENT)
    if found.low is None or found.high is None:
        return Text(showing.show_value(comparison.metric, found.value), style="bold")
    scale, places = (100, 1) if showing.is_rate(comparison.metric) else (1, 3)
    interval = " to ".join(f"{scale * end:.{places}f}" for end in (found.low, found.high))
    text = Text(showing.show_value(comparison.metric, found.value), style="bold")
    return text.append(f"\n{interval}", style="not bold dim")
