"""What commands print: as it is, whatever it holds, and as commands that can be pasted."""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli import app
from retune.cli.consoles import open_console
from retune.cli.runs.running import show_summary
from retune.cli.runs.terminal_watcher import TerminalWatcher, stage_text
from retune.release.summary import RunSummary
from retune.score_records import (
    GateDecision,
    GuardFinding,
    Metric,
    RegisteredRef,
    SliceFinding,
    SmallSlice,
)
from retune.watching import StageLine

HOSTILE = "[/x] :x: [red]"


def test_an_unexpected_error_shows_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever message ends a command: libraries repeat addresses as they got them."""
    address = "http://ana:segredo@prefect.test/api"

    def fail(**_: Any) -> None:
        raise ValueError(f"404 for url {address}")

    monkeypatch.setattr(app, "app", fail)
    assert app._run() == 1
    said = capsys.readouterr().err
    assert "segredo" not in said and "prefect.test/api" in said and "bug" in said


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


def test_guards_and_parts_of_the_rows_are_printed() -> None:
    """What a part is called stands in the rows, and is no markup either."""
    given = {"difference": -0.3, "low": -0.4, "high": -0.2, "p_value": 0.001, "n": 60}
    shared = given | {"verdict": "worse", "against": "base"}
    guard = GuardFinding(metric="flip_rate", margin=0.05, holds=False, **shared)  # type: ignore[arg-type]
    part = SliceFinding(  # type: ignore[arg-type]
        metric="accuracy", by="label", part=HOSTILE, rows=60, refuses=True, **shared
    )
    decision = GateDecision.model_construct(
        promote=False,
        reasons=(),
        guards=(guard,),
        slices=(part,),
        small_slices=(SmallSlice(by="label", part="rare", rows=3),),
    )
    told = shown(summary(decision=decision), "r.yaml")
    for text in (f"label {HOSTILE}", "worse: refuses", "not shown", "5.0 points", "rare (3)"):
        assert text in told, text


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


def test_a_text_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Alone, in a table whose cells are wrapped, and as a title; styles of rich's own stay."""
    hostile = "x\x1b[2J\x1b]0;y\x9b31m\u202ez"
    console = open_console()
    console.print(Text(hostile, style="bold"), soft_wrap=True)
    console.print(hostile)
    table = Table(title=hostile)
    table.add_column(hostile)
    table.add_row(Text(f"{hostile} " * 30))
    console.print(table)
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x9b", "\u202e"} & {*shown}
    joined = "".join(sign for sign in shown if sign not in "│┃ \n")
    assert (r"x\x1b[2J\x1b]0;y\x9b31m\u202ez" * 30) in joined
