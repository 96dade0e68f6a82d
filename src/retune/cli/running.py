"""`retune run`: the flow in a terminal, and what it found as tables."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli import settings
from retune.cli.interrupting import bound_interrupt
from retune.cli.watching import TerminalWatcher
from retune.errors import ServiceError
from retune.inputs import locate_inputs
from retune.recipe.loading import load_recipe
from retune.records import Metric, Role
from retune.release.showing import ROLE_LABELS, is_rate, label_of, show_metric, warn_of_few_groups
from retune.release.summary import HEADLINE, RunSummary
from retune.stage_process import STOP_GRACE_SECONDS
from retune.watching import WATCHER

_API_TIMEOUT_SECONDS = 5.0
INTERRUPT_SECONDS = STOP_GRACE_SECONDS + 5.0
"""How long a flow with a stage process may take to end on Ctrl-C."""


def run_recipe(recipe: Path, overrides: Sequence[str], *, as_json: bool) -> None:
    """Run the flow `finetune` and print what came of it.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.
        as_json: Print one JSON object last, alone on standard output.

    Raises:
        RetuneError: Whatever stopped the run.
    """
    console = Console(stderr=as_json)
    # What is wrong or missing is said before anything is started.
    locate_inputs(load_recipe(recipe, overrides))
    prepare_prefect()
    with console.status("starting Prefect"):
        from flows.finetune import finetune
    bound_interrupt(INTERRUPT_SECONDS)
    with TerminalWatcher(console) as watcher:
        WATCHER.set(watcher)
        result = finetune(recipe=recipe.absolute(), overrides=list(overrides))
    summary = RunSummary.model_validate_json(json.dumps(result))
    show_summary(console, summary, recipe)
    if as_json:
        print(json.dumps(result))


def prepare_prefect() -> None:
    """Set Prefect up for a terminal: quiet, no telemetry, and its API answering.

    Raises:
        ServiceError: An API address is configured and does not answer.
    """
    if not settings.debug:
        # Quiet here, where the watcher speaks; Prefect's UI gets the log all the same.
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_LOGGING_SERVER_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    # Two busy cores can take longer than the default 20 s.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    from prefect.settings import PREFECT_API_URL

    address = PREFECT_API_URL.value()
    if not address:
        return
    try:
        httpx.get(f"{address}/health", timeout=_API_TIMEOUT_SECONDS).raise_for_status()
    except httpx.HTTPError as error:
        raise ServiceError(
            f"Prefect's API at {address} does not answer ({type(error).__name__}). Start it with "
            "`prefect server start`, correct PREFECT_API_URL, or unset it "
            "(`prefect config unset PREFECT_API_URL`) to run with a server of retune's own."
        ) from error


def show_summary(console: Console, summary: RunSummary, recipe: Path) -> None:
    """Print tables, samples, the decision and where to look next."""
    console.print()
    console.print(scores_table(summary))
    for name, figures in summary.baselines.items():
        told = ", ".join(f"{label_of(key)} {show_metric(key, figures[key])}" for key in figures)
        console.print(f"  {label_of(name)}: {told}", highlight=False, markup=False)
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
        console.print(f"  {reason}", highlight=False)
    registered = summary.registered
    console.print(
        f"Registered: {registered.model_name} version {registered.version}, "
        f"alias {registered.alias}",
        highlight=False,
    )
    console.print(f"Report:     {summary.report / 'report.html'}", highlight=False, soft_wrap=True)
    console.print(f"Dashboards: retune ui --recipe {recipe}", highlight=False, soft_wrap=True)
    console.print(
        f"MLflow:     mlflow ui --backend-store-uri {summary.tracking_uri}",
        highlight=False,
        soft_wrap=True,
    )


def scores_table(summary: RunSummary) -> Table:
    """Return the table of all models on the same rows, with intervals below the values."""
    first = next(iter(summary.models.values()))
    rows = first["perplexity" if "perplexity" in first else "macro_f1"].n
    table = Table(title=f"{summary.recipe}: {rows} held-out rows, 95 % intervals", show_lines=True)
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
