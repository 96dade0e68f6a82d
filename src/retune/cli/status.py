"""`retune status`: champion, challenger, what would make a retraining worth it, the next start."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.consoles import open_console
from retune.cli.runs.retraining import findings_table
from retune.cli.services.next_runs import find_next_run
from retune.recipe.loading import load_recipe
from retune.registry.aliases.standing import NamedVersion
from retune.retraining.clock import write_moment
from retune.retraining.findings import Assessment
from retune.retraining.status import RetrainStatus


def show_status(recipe: Path, overrides: Sequence[str], *, html: bool, as_json: bool) -> None:
    """Print how a recipe's model stands; nothing that needs a model is computed.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.
        html: Write the model's page as well, and say where it is.
        as_json: Print one JSON object last.

    Raises:
        RetuneError: The recipe or the rows are wrong, or MLflow is away.
    """
    console = open_console(stderr=as_json)
    with console.status("looking at rows and registry"):
        found = read_status(recipe, overrides)
    print_status(console, found)
    if html:
        console.print(Text(f"page       {_write_page(recipe, overrides)}"), soft_wrap=True)
    if as_json:
        print(json.dumps(found.model_dump(mode="json")))


def read_status(recipe: Path, overrides: Sequence[str]) -> RetrainStatus:
    """Find how a recipe's model stands.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.

    Returns:
        The status.

    Raises:
        RetuneError: The recipe or the rows are wrong, or MLflow is away.
    """
    loaded = load_recipe(recipe, overrides)

    from flows.preparing import prepare_job
    from tasks.retrain.looking import look_around
    from tasks.retrain.triggers import (
        judge_held_back,
        judge_held_out_rows,
        judge_last_rows,
        judge_triggers,
        list_unasked,
    )
    from tasks.runs.opening import prepare_run

    run = prepare_run(loaded, direct=True)
    look = look_around(run, at=None)
    job = prepare_job(run, look.inputs) if look.reads_rows else None
    worn = judge_held_out_rows(job) if job else judge_last_rows(look)
    next_run, reason = find_next_run(loaded)
    return RetrainStatus(
        recipe=loaded.recipe.name,
        model_name=look.model_name,
        at=write_moment(look.at),
        standing=look.standing,
        triggers=judge_triggers(look, job),
        bounds=judge_held_back(look) + worn,
        needs_model=list_unasked(look),
        next_run=write_moment(next_run) if next_run else None,
        next_run_reason=reason,
    )


def _write_page(recipe: Path, overrides: Sequence[str]) -> Path:
    from tasks.overview import write_page
    from tasks.runs.opening import prepare_run

    return write_page(prepare_run(load_recipe(recipe, overrides), direct=True, told=True))


def print_status(console: Console, found: RetrainStatus) -> None:
    """Print a status.

    Args:
        console: Where to.
        found: The status.
    """
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_row("model", Text(found.model_name, style="bold"))
    table.add_row("champion", _told(found.standing.champion))
    table.add_row("challenger", _told(found.standing.challenger))
    due = f"{found.next_run}, {found.next_run_reason}" if found.next_run else found.next_run_reason
    table.add_row("next start", Text(due))
    console.print(table)
    if found.standing.note:
        console.print(Text(f"note: {found.standing.note}", style="yellow"), soft_wrap=True)
    if found.triggers or found.bounds:
        console.print(findings_table(found.triggers, found.bounds))
    elif not found.needs_model:
        console.print(Text(Assessment(triggers=()).reason), soft_wrap=True)
    for name in found.needs_model:
        console.print(Text(f"  {name}: needs the model; the flow itself asks", style="dim"))


def _told(holder: NamedVersion | None) -> Text:
    if holder is None:
        return Text("none")
    waits = f", approval: {holder.approval}" if holder.approval else ""
    return Text(f"version {holder.version} ({holder.digest[:12] or 'not by retune'}){waits}")
