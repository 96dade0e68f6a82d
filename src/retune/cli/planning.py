"""`retune plan`: what a run would do, without doing it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from retune.cli.consoles import open_console
from retune.cli.runs.terminal_watcher import stage_text
from retune.recipe.loading import load_recipe
from retune.tracking import check_tracking
from retune.watching import WATCHER, StageLine


class _PlanWatcher:
    """Prints each stage as it is looked up."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def started(self, label: str, reason: str) -> None:
        """Nothing starts while planning."""

    def progress(self, label: str, what: str, done: int, total: int) -> None:
        """Nothing proceeds while planning."""

    def finished(self, line: StageLine) -> None:
        """Print the stage's line."""
        self._console.print(stage_text(line, ran="run"), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a note."""
        self._console.print(Text(f"  note: {text}", style="yellow"), soft_wrap=True)


def plan_recipe(recipe: Path, overrides: Sequence[str], *, as_json: bool) -> None:
    """Print for each stage whether it would be reused or run, and why.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.
        as_json: Print one JSON object last.

    Raises:
        RetuneError: The recipe or an input is wrong.
    """
    console = open_console(stderr=as_json)
    WATCHER.set(_PlanWatcher(console))
    loaded = load_recipe(recipe, overrides)

    from flows.finetune import train_challenger
    from tasks.runs.opening import prepare_run

    run = prepare_run(loaded, planning=True)
    check_tracking(run.context["tracking_uri"])
    train_challenger(run)
    to_run = sum(line.state == "ran" for line in run.lines)
    console.print(f"{to_run} stages to run, {len(run.lines) - to_run} reused.")
    if as_json:
        lines = [
            {
                "name": line.name,
                "role": line.role,
                "state": "hit" if line.state == "reused" else "run",
                "reason": line.reason,
                "key": line.key or None,
            }
            for line in run.lines
        ]
        print(json.dumps({"stages": lines}))
