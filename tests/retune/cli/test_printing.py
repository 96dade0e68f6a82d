"""What commands print: as it is, whatever it holds, and as commands that can be pasted."""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from retune.cli.consoles import open_console
from retune.cli.running import show_summary
from retune.cli.terminal_watcher import TerminalWatcher, stage_text
from retune.records import GateDecision, Metric, RegisteredRef
from retune.release.summary import RunSummary
from retune.watching import StageLine

HOSTILE = "[/x] :x: [red]"


def summary(**more: Any) -> RunSummary:
    """A run's summary without samples, whose texts are hostile."""
    metric = Metric(value=2.0, low=1.0, high=3.0, n=4)
    given: dict[str, Any] = {
        "recipe": HOSTILE,
        "models": {"base": {"perplexity": metric}, "merged": {"perplexity": metric}},
        "baselines": {},
        "stages": (),
        "decision": GateDecision.model_construct(promote=True, reasons=(HOSTILE,)),
        "registered": RegisteredRef.model_construct(model_name="m", version=1, alias="champion"),
        "samples": (),
        "mlflow_run_id": "r",
        "tracking_uri": "sqlite:////a b/mlflow.db",
        "report": Path("/a b/reports/r"),
        **more,
    }
    return RunSummary.model_construct(**given)


def shown(of: RunSummary, recipe: str) -> str:
    """Return what is printed of a summary on a wide console that reads markup."""
    written = io.StringIO()
    show_summary(Console(file=written, width=200), of, Path(recipe))
    return written.getvalue()


def test_texts_of_a_run_are_no_markup() -> None:
    """A closing tag in a name or a reason would end the command after the model was promoted."""
    told = shown(summary(), f"conf/{HOSTILE}.yaml")
    assert told.count(HOSTILE) == 3


def test_printed_commands_can_be_pasted() -> None:
    """A shell reads the recipe's path and the database's address as one word each."""
    lines = shown(summary(), "my recipes/it's.yaml").splitlines()
    commands = {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}
    assert shlex.split(commands["Dashboards"]) == [
        "retune", "ui", "--recipe", "my recipes/it's.yaml"
    ]  # fmt: skip
    assert shlex.split(commands["MLflow"])[-1] == "sqlite:////a b/mlflow.db"


def test_a_tracking_server_is_shown_and_not_started_over() -> None:
    """`mlflow ui` takes the address of a database; a server has pages of its own."""
    told = shown(summary(tracking_uri="http://ana:x@host:5000"), "r.yaml")
    assert "mlflow ui" not in told
    assert "MLflow:     http://host:5000" in told


def test_the_console_of_commands_takes_no_text_for_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Texts stay as they are where a caller forgets to say so."""
    open_console().print(HOSTILE)
    assert capsys.readouterr().out == f"{HOSTILE}\n"


@pytest.mark.parametrize("width", [1, 7, 300])
@pytest.mark.parametrize("terminal", ["dumb", "xterm"])
def test_a_watcher_shows_hostile_reasons_on_any_terminal(width: int, terminal: str) -> None:
    """One column or three hundred, with and without cursor: the reason is shown as it is."""
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=True, _environ={"TERM": terminal})
    with TerminalWatcher(console) as watcher:
        watcher.started("train", HOSTILE)
        watcher.progress("train", HOSTILE, 1, 2)
        watcher.note(HOSTILE)
        watcher.finished(StageLine(name="train", state="ran", reason=HOSTILE, seconds=1.0, key="k"))
    assert written.getvalue().count("[/x]") >= 2


@pytest.mark.parametrize(
    ("state", "told"),
    [("ran", "+ train"), ("reused", "= train"), ("waited", "= train")],
)
def test_a_line_tells_what_this_run_computed_from_what_it_found(state: Any, told: str) -> None:
    """A plus for its own work; the state is written out, with its seconds."""
    line = StageLine(name="train", state=state, reason="why", seconds=2.5, key="k")
    shown = stage_text(line).plain
    assert told in shown and f" {state} " in shown and "2.5 s" in shown
