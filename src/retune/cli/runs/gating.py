"""`retune gate`: what the gate of a recipe needs, and whether it promotes a model over itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.consoles import open_console
from retune.cli.runs.flow_runs import run_flow
from retune.cli.runs.terminal_watcher import TerminalWatcher
from retune.errors import ScoringError
from retune.gate.self_test import SelfTest
from retune.inputs import locate_inputs
from retune.recipe.loading import load_recipe
from retune.scoring.showing import label_of, show_value
from retune.watching import WATCHER


def show_power(recipe: Path, overrides: Sequence[str]) -> None:
    """Print what the gate of a recipe can show on its held-out rows.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.

    Raises:
        RetuneError: The gate could never be passed, or the recipe or its rows are wrong.
    """
    console = open_console()
    loaded = load_recipe(recipe, overrides)
    with console.status("looking at the rows"), TerminalWatcher(console) as watcher:
        from flows.preparing import prepare_job
        from retune.gate.requirements import describe_power
        from tasks.gating import check_gate
        from tasks.runs.opening import prepare_run

        WATCHER.set(watcher)
        run = prepare_run(loaded, direct=True)
        found = check_gate(prepare_job(run, locate_inputs(loaded, with_weights=False)))
    said = "what decides is over no rows" if found is None else describe_power(found)
    console.print(Text(said), soft_wrap=True)


def run_self_test(recipe: Path, overrides: Sequence[str], *, draws: int, as_json: bool) -> None:
    """Score a model twice, let the gate compare the two, and print how often it would flip.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.
        draws: Bootstrap seeds.
        as_json: Print one JSON object last, alone on standard output.

    Raises:
        ScoringError: It would have promoted the model over itself.
        RetuneError: The recipe is wrong, or a stage failed.
    """
    locate_inputs(load_recipe(recipe, overrides))
    kept: list[SelfTest] = []

    def show(console: Console, found: SelfTest) -> None:
        kept.append(found)
        show_self_test(console, found)

    arguments = {"recipe": recipe.absolute(), "overrides": list(overrides), "draws": draws}
    run_flow("flows.self_testing:self_test", arguments, show, as_json=as_json)
    refuse_flips(kept[0])


def refuse_flips(found: SelfTest) -> None:
    """Refuse a gate that promotes a model over itself.

    Args:
        found: From the self-test.

    Raises:
        ScoringError: It does.
    """
    if found.flips:
        raise ScoringError(
            f"the gate would have promoted {found.model} over itself in {found.flips} of "
            f"{sum(each.draws for each in found.counts)} draws: {label_of(found.metric)} is not "
            "to be trusted to decide. See which rows differ between the two scorings, and hold out "
            "more."
        )


def show_self_test(console: Console, found: SelfTest) -> None:
    """Print how often the gate would have flipped, and how far the two scorings are apart."""
    over = f"{label_of(found.metric)}, {found.rows} rows, level {found.alpha}"
    counts = Table(title=Text(f"{found.model} against itself: {over}"))
    for column in ("scored against", "draws", "promoted", "called worse"):
        counts.add_column(column)
    names = {"itself": "itself", "copy": "itself, rows shuffled, other batches"}
    for each in found.counts:
        cells = (names[each.against], str(each.draws), str(each.flips), str(each.vetoes))
        counts.add_row(*map(Text, cells))
    console.print(counts)
    apart = Table(title=Text("The two scorings"))
    for column in ("figure", "first", "shuffled", "apart", "rows that differ"):
        apart.add_column(column)
    for one in found.differences:
        values = (show_value(one.metric, one.first), show_value(one.metric, one.second))
        gap = "" if one.apart is None else f"{one.apart:.2g}"
        apart.add_row(*map(Text, (label_of(one.metric), *values, gap, str(one.rows))))
    console.print(apart)
