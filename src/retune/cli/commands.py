"""The commands and their options; what each does is imported when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

import retune
from retune.cli.options import JsonOption, SetOption
from retune.cli.registered.publishing_commands import PUBLISHING_COMMANDS
from retune.cli.registered.registry_commands import REGISTRY_COMMANDS
from retune.cli.services.service_commands import SERVICE_COMMANDS
from retune.cli.stores.store_commands import STORE_COMMANDS
from retune.collecting.choices import ProviderName, RowKind

RecipeArgument = Annotated[Path, typer.Argument(help="The recipe's YAML file.", metavar="RECIPE")]
StopOption = Annotated[
    bool,
    typer.Option(
        "--stop-hopeless/--no-stop-hopeless",
        help="Stop a trial whose held-out loss falls behind the median of the finished ones.",
    ),
]
RunnerOption = Annotated[
    Optional[Literal["dask", "ray"]],  # noqa: UP045
    typer.Option(help="Run trials at once, by a task runner; without it one by one."),
]
WorkersOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(help="Trials at once, with --runner; 2 unless stated."),
]


def run(recipe: RecipeArgument, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Retrain: run every stage that is not stored yet, decide, register."""
    from retune.cli.runs.running import run_recipe

    run_recipe(recipe, overrides or [], as_json=as_json)


def retrain(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Train whatever triggers and cooldown say.")
    ] = False,
    at: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="TIME", help="Time that it is taken to be, ISO 8601; now unless given."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a challenger where it is worth it by the recipe's triggers; else skip, and say why."""
    from retune.cli.runs.retraining import retrain_recipe

    retrain_recipe(recipe, overrides or [], force=force, at=at, as_json=as_json)


def status(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    html: Annotated[
        bool, typer.Option("--html", help="Write the page of the model's whole history, too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show champion, challenger, what each trigger says now, and when the next start is due."""
    from retune.cli.status import show_status

    show_status(recipe, overrides or [], html=html, as_json=as_json)


def plan(recipe: RecipeArgument, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Show for each stage whether it would be reused or run, and why. Runs nothing."""
    from retune.cli.planning import plan_recipe

    plan_recipe(recipe, overrides or [], as_json=as_json)


def check(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    show: Annotated[int, typer.Option(help="Rows to print with their target tokens.")] = 2,
) -> None:
    """Look at recipe, model, data, template and loss mask before anything expensive starts."""
    from retune.cli.checking import check_recipe

    check_recipe(recipe, overrides or [], show=show)


def evaluate(
    recipe: RecipeArgument,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="base, a folder (model, adapter, bundle), a hub id, models:/name@alias; several "
            "are compared with the first.",
        ),
    ],
    overrides: SetOption = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder of the pages; without it one below the store's reports."),
    ] = None,
    effort: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="EFFORT[,...]",
            help="low, medium, high: how much each model shall think (gpt-oss), side by side.",
        ),
    ] = None,
    engine: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="ADDRESS",
            help="OpenAI-compatible server (vLLM) that writes the answers; only what is written "
            "is scored then.",
        ),
    ] = None,
    engine_model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="What --engine calls the model, where not NAME-VERSION."),
    ] = None,
    also_here: Annotated[
        bool,
        typer.Option("--also-here", help="With --engine: score on this machine too, and compare."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Score models side by side on the held-out rows. Trains and registers nothing."""
    from retune.cli.runs.evaluating import evaluate_models, read_efforts, read_engine

    evaluate_models(
        recipe,
        models,
        overrides or [],
        out=out,
        efforts=read_efforts(effort) if effort is not None else [],
        engine=read_engine(engine, engine_model, also_here=also_here),
        also_here=also_here,
        as_json=as_json,
    )


def gate(
    recipe: RecipeArgument,
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test",
            help="Score the champion (or base) twice, the second time shuffled, and let the gate "
            "compare the two: it must never promote.",
        ),
    ] = False,
    draws: Annotated[int, typer.Option(min=1, help="Bootstrap seeds of --self-test.")] = 20,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what the gate can show on the held-out rows, or test it against itself."""
    from retune.cli.runs.gating import run_self_test, show_power

    if self_test:
        run_self_test(recipe, overrides or [], draws=draws, as_json=as_json)
    else:
        show_power(recipe, overrides or [])


def compare(
    recipe: RecipeArgument,
    methods: Annotated[
        str,
        typer.Option(help="full, lora, qlora, bottleneck, prefix, p_tuning, prompt, or variants."),
    ],
    overrides: SetOption = None,
    stop_hopeless: StopOption = False,
    runner: RunnerOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train by several methods: quality, memory, time, parameters, tokens and cost of each."""
    from retune.cli.runs.comparing import compare_methods

    compare_methods(
        recipe,
        methods.split(","),
        overrides or [],
        stop_hopeless=stop_hopeless,
        runner=runner,
        workers=workers,
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
        Optional[Literal["random", "tpe"]],  # noqa: UP045
        typer.Option(help="Draw points instead of training all: random, or tpe (Optuna)."),
    ] = None,
    trials: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="How many points a search draws."),
    ] = None,
    overrides: SetOption = None,
    stop_hopeless: StopOption = True,
    runner: RunnerOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train with many settings: every point of a grid, or points that a search draws."""
    from retune.cli.runs.comparing import sweep_settings

    sweep_settings(
        recipe,
        grid or [],
        ranges or [],
        overrides or [],
        search=search,
        trials=trials,
        stop_hopeless=stop_hopeless,
        runner=runner,
        workers=workers,
        as_json=as_json,
    )


def estimate(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    steps: Annotated[
        bool, typer.Option("--steps/--no-steps", help="Run and time a few real steps.")
    ] = True,
    device: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="cpu or cuda: count for another device than this machine's."),
    ] = None,
    find_batch: Annotated[
        bool,
        typer.Option("--find-batch", help="Find the most rows that fit at once."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what a training will take before it starts: memory by part, tokens, time, cost."""
    from retune.cli.estimating import Asked, estimate_recipe

    asked = Asked(device=device, timed=steps, find_batch=find_batch)
    estimate_recipe(recipe, overrides or [], asked, as_json=as_json)


def collect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="File of addresses, sitemap (file or address), HTML or Markdown files, a folder.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="JSON Lines file to write.")],
    rows: Annotated[
        RowKind, typer.Option("--as", help="What a row is; sentences pair each with the next.")
    ] = "pairs",
    provider: Annotated[ProviderName, typer.Option(help="Who fetches.")] = "http",
    zone: Annotated[Optional[str], typer.Option(help="Bright Data zone.")] = None,  # noqa: UP045
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 16,
    per_host: Annotated[int, typer.Option(min=1, help="Of them to one host.")] = 2,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one request.")] = 30.0,
    attempts: Annotated[int, typer.Option(min=1, help="Requests for one page.")] = 4,
    min_characters: Annotated[int, typer.Option(min=1, help="Shortest section.")] = 80,
    max_characters: Annotated[int, typer.Option(min=200, help="Longest answer.")] = 4000,
    most_lost: Annotated[
        float, typer.Option(min=0, max=1, help="Share of its text a page may lose unnamed.")
    ] = 0.5,
    most_empty: Annotated[
        float, typer.Option(min=0, max=1, help="Share of pages read that may give no row.")
    ] = 0.5,
    cache: Annotated[Path, typer.Option(help="Folder of raw pages.")] = Path(".retune/pages"),
    refresh: Annotated[bool, typer.Option("--refresh", help="Fetch cached pages again.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over an earlier file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn pages into questions and answers, with an outcome for every page."""
    from retune.cli.runs.collecting import collect_pages
    from retune.collecting.records import CollectSettings

    values = {
        "rows": rows,
        "provider": provider,
        "concurrency": concurrency,
        "per_host": per_host,
        "timeout_seconds": timeout,
        "attempts": attempts,
        "min_characters": min_characters,
        "max_characters": max_characters,
        "most_lost": most_lost,
        "most_empty": most_empty,
        "cache": cache,
        "refresh": refresh,
        **({"zone": zone} if zone else {}),
    }
    settings = CollectSettings.model_validate(values)
    collect_pages(source, out, settings, force=force, as_json=as_json)


def doctor() -> None:
    """Look at this machine: versions, device, Prefect, MLflow, disk."""
    from retune.cli.doctor import examine

    examine()


def schema() -> None:
    """Print the JSON schema of a recipe, for editors and forms."""
    from retune.recipe import recipe_schema_text

    sys.stdout.write(recipe_schema_text())


def version() -> None:
    """Print retune's version."""
    typer.echo(retune.__version__)


COMMANDS = (
    run,
    retrain,
    status,
    plan,
    check,
    evaluate,
    gate,
    compare,
    sweep,
    estimate,
    collect,
    *REGISTRY_COMMANDS,
    *PUBLISHING_COMMANDS,
    doctor,
    *STORE_COMMANDS,
    *SERVICE_COMMANDS,
    schema,
    version,
)
"""In the order of `retune --help`."""
