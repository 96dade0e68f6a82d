"""`retune run`: the flow in a terminal, and what it found as tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.runs.flow_runs import run_flow
from retune.commands import shell_line
from retune.inputs import locate_inputs
from retune.model_records import Role
from retune.recipe.loading import load_recipe
from retune.release.summary import RunSummary
from retune.score_records import GateDecision, Metric
from retune.scoring.figures import headline_of
from retune.scoring.showing import (
    ROLE_LABELS,
    is_rate,
    label_of,
    list_small_slices,
    show_difference,
    show_margin,
    show_metric,
    warn_of_few_groups,
)
from retune.tracking import shown_uri


def run_recipe(recipe: Path, overrides: Sequence[str], *, as_json: bool) -> None:
    """Run the flow `finetune` and print what came of it.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.
        as_json: Print one JSON object last, alone on standard output.

    Raises:
        RetuneError: Whatever stopped the run.
    """
    # What is wrong or missing is said before anything is started.
    locate_inputs(load_recipe(recipe, overrides))
    run_flow(
        "flows.finetune:finetune",
        {"recipe": recipe.absolute(), "overrides": list(overrides)},
        partial(show_summary, recipe=recipe),
        as_json=as_json,
    )


def show_summary(console: Console, summary: RunSummary, recipe: Path) -> None:
    """Print tables, samples, the decision and where to look next."""
    console.print()
    console.print(scores_table(summary))
    for name, figures in summary.baselines.items():
        told = ", ".join(f"{label_of(key)} {show_metric(key, figures[key])}" for key in figures)
        console.print(Text(f"  {label_of(name)}: {told}"))
    for sample in summary.samples:
        console.print(
            _sample_table(sample.question, sample.reference, sample.answers, sample.right)
        )
    decision = summary.decision
    verdict = "promoted" if decision.promote else "not promoted"
    console.print(
        Text(f"Decision: {verdict}", style="bold green" if decision.promote else "bold red")
    )
    for reason in decision.reasons:
        console.print(Text(f"  {reason}"), soft_wrap=True)
    if summary.budget is not None:
        console.print(Text(f"  {summary.budget.describe()}"), soft_wrap=True)
    for note in decision.notes:
        console.print(Text(f"  note: {note}", style="yellow"), soft_wrap=True)
    if decision.guards or decision.slices:
        console.print(checks_table(decision))
    if small := list_small_slices(decision.small_slices):
        console.print(Text(f"  {small}"), soft_wrap=True)
    registered = summary.registered
    if registered.held_back:
        console.print(Text(f"  no champion yet: {registered.held_back}", style="yellow"))
    for what, text in (
        (
            "Registered",
            f"{registered.model_name} version {registered.version}, alias {registered.alias}",
        ),
        ("Report", str(summary.report / "report.html")),
        ("Dashboards", shell_line("retune", "ui", "--recipe", recipe)),
        ("MLflow", _look_at_mlflow(summary.tracking_uri)),
    ):
        console.print(Text(f"{what + ':':<11} {text}"), soft_wrap=True)


def checks_table(decision: GateDecision) -> Table:
    """Return the table of guards and parts of the rows, each with what it says."""
    table = Table(title=Text("Guards, and parts of the rows"))
    for column in ("", "against", "difference", "margin", "verdict"):
        table.add_column(column, overflow="fold")
    for guard in decision.guards:
        said = Text("holds", "green") if guard.holds else Text("not shown", "red")
        against = ROLE_LABELS[guard.against].lower()
        shown = (label_of(guard.metric), against, show_difference(guard), show_margin(guard))
        table.add_row(*(Text(each) for each in shown), said)
    for part in decision.slices:
        said = Text("worse: refuses", "red") if part.refuses else Text(part.verdict)
        against = ROLE_LABELS[part.against].lower()
        name = f"{part.by} {part.part}"
        table.add_row(Text(name), Text(against), Text(show_difference(part)), Text(), said)
    return table


def _look_at_mlflow(uri: str) -> str:
    # `mlflow ui` is for a database; a server shows itself.
    if uri.startswith(("http://", "https://")):
        return shown_uri(uri)
    return shell_line("mlflow", "ui", "--backend-store-uri", uri)


def scores_table(summary: RunSummary) -> Table:
    """Return the table of all models on the same rows, with intervals below the values."""
    first = next(iter(summary.models.values()))
    rows = first["perplexity" if "perplexity" in first else "macro_f1"].n
    title = Text(f"{summary.recipe}: {rows} held-out rows, 95 % intervals")
    table = Table(title=title, show_lines=True)
    table.caption = (
        warn_of_few_groups(
            metric.groups
            for figures in summary.models.values()
            for metric in (figures[name] for name in headline_of(figures))
        )
        or None
    )
    table.add_column("")
    for role in summary.models:
        table.add_column(ROLE_LABELS[role].lower(), justify="right")
    for name in headline_of({name for metrics in summary.models.values() for name in metrics}):
        figures = [metrics.get(name) for metrics in summary.models.values()]
        table.add_row(name.replace("_", " "), *(_cell(name, figure) for figure in figures))
    return table


def _cell(name: str, metric: Metric | None) -> Text:
    if metric is None or metric.value is None or metric.low is None or metric.high is None:
        return Text("not scored")
    scale, places, unit = (100, 1, " %") if is_rate(name) else (1, 3, "")
    value, low, high = (
        f"{part * scale:.{places}f}" for part in (metric.value, metric.low, metric.high)
    )
    return Text(f"{value}{unit}", style="bold").append(f"\n{low} to {high}", style="not bold dim")


def _sample_table(question: str, reference: str, answers: Any, right: Any) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_row(Text("question", style="dim"), Text(question, style="bold"))
    table.add_row(Text("reference", style="dim"), Text(reference))
    shown: tuple[Role, ...] = ("base", "merged")
    for role in shown:
        mark = {True: "right", False: "wrong", None: "not judged"}[right[role]]
        style = {"right": "green", "wrong": "red", "not judged": "yellow"}[mark]
        table.add_row(
            Text(ROLE_LABELS[role].lower(), style="dim"),
            Text(f"{answers[role] or '(nothing)'}  ({mark})", style=style),
        )
    table.add_row("", "")
    return table
