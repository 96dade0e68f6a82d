"""`retune retrain`: the flow in a terminal, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.runs.flow_runs import run_flow
from retune.cli.runs.running import show_summary
from retune.errors import ConfigError
from retune.recipe.loading import load_recipe
from retune.retraining.clock import as_utc
from retune.retraining.findings import BoundFinding, TriggerFinding
from retune.retraining.summary import RetrainSummary

_STYLES = {"promoted": "bold green", "rejected": "bold red", "expired": "bold red"}


def retrain_recipe(
    recipe: Path, overrides: Sequence[str], *, force: bool, at: str | None, as_json: bool
) -> None:
    """Run the flow `retrain` and print what came of it.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.
        force: Train whatever triggers, cooldown and number per week say.
        at: The time that it is taken to be, ISO 8601; None for now.
        as_json: Print one JSON object last, alone on standard output.

    Raises:
        RetuneError: Whatever stopped the run.
    """
    # What is wrong is said before anything is started.
    load_recipe(recipe, overrides)
    arguments = {
        "recipe": recipe.absolute(),
        "overrides": list(overrides),
        "force": force,
        "at": parse_moment(at),
    }
    show = partial(show_retraining, recipe=recipe)
    run_flow("flows.retrain:retrain", arguments, show, as_json=as_json)


def parse_moment(text: str | None) -> datetime | None:
    """Read the option `--at`.

    Args:
        text: ISO 8601; None for none.

    Raises:
        ConfigError: It is no date and time.
    """
    try:
        return None if text is None else as_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError) as error:  # in UTC it may be no year of the calendar
        raise ConfigError(
            f"--at {text!r}: no date and time of ISO 8601. Write one such as "
            "2026-11-26T03:00:00+00:00."
        ) from error


def show_retraining(console: Console, found: RetrainSummary, recipe: Path) -> None:
    """Print what triggers said, what the run found, and what came of it."""
    if found.run is not None:
        show_summary(console, found.run, recipe)
    console.print()
    console.print(findings_table(found.assessment.triggers, found.assessment.bounds))
    title = found.outcome.replace("_", " ").capitalize()
    console.print(Text(title, style=_STYLES.get(found.outcome, "bold")), soft_wrap=True)
    console.print(Text(f"  {found.reason}"), soft_wrap=True)
    champion = "none" if found.champion is None else f"version {found.champion}"
    console.print(Text(f"Champion of {found.model_name}: {champion}"), soft_wrap=True)


def findings_table(triggers: Iterable[TriggerFinding], bounds: Iterable[BoundFinding]) -> Table:
    """Return what each trigger and bound says, a line each."""
    table = Table(box=None, padding=(0, 1))
    for column in ("trigger or bound", "says", "why"):
        table.add_column(column, overflow="fold")
    for trigger in triggers:
        says = Text("worth it", style="green") if trigger.fires else Text("no", style="dim")
        table.add_row(trigger.trigger, says, Text(trigger.reason))
    for bound in bounds:
        says = Text("holds back", style="red") if bound.holds_back else Text("go on", style="dim")
        table.add_row(bound.bound, says, Text(bound.reason))
    return table
