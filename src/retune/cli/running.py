"""`retune run`: the flow in a terminal, and what it found as tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.flow_runs import run_flow
from retune.commands import shell_line
from retune.inputs import locate_inputs
from retune.recipe.loading import load_recipe
from retune.records import Metric, Role
from retune.release.showing import ROLE_LABELS, is_rate, label_of, show_metric, warn_of_few_groups
from retune.release.summary import RunSummary
from retune.scoring.figures import HEADLINE
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
        console.print(Text(f"  {reason}"))
    registered = summary.registered
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
            for name, metric in figures.items()
            if name in HEADLINE
        )
        or None
    )
    table.add_column("")
    for role in summary.models:
        table.add_column(ROLE_LABELS[role].lower(), justify="right")
    for name in HEADLINE:
        figures = [metrics.get(name) for metrics in summary.models.values()]
        if any(figures):
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
