"""The commands and their options; what each does is imported when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

import retune
from retune.cli.registered.publishing_commands import PUBLISHING_COMMANDS
from retune.cli.registered.registry_commands import REGISTRY_COMMANDS
from retune.collecting.choices import ProviderName, RowKind

RecipeArgument = Annotated[Path, typer.Argument(help="The recipe's YAML file.", metavar="RECIPE")]
SetOption = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads annotations at run time
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="Override a setting: training.learning_rate=1.0e-4"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object last, on stdout.")]
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
    as_json: JsonOption = False,
) -> None:
    """Score models side by side on the held-out rows. Trains and registers nothing."""
    from retune.cli.runs.evaluating import evaluate_models

    evaluate_models(recipe, models, overrides or [], out=out, as_json=as_json)


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


def verify(
    recipe: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="Recipe whose store is read.", metavar="RECIPE"),
    ] = None,
    stage: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Read the artifacts of one stage; without it all."),
    ] = None,
    store: Annotated[Path, typer.Option(help="Store folder, without a recipe.")] = Path(".retune"),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read every stored byte through: a run takes large files that nobody wrote to as they are."""
    from retune.cli.verifying import verify_store

    verify_store(recipe, store, overrides or [], stage=stage, as_json=as_json)


def gc(
    recipes: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Argument(
            help="Recipes in use, whose stages stay; those in conf/recipes unless any is named.",
            metavar="RECIPE",
        ),
    ] = None,
    store: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Store folder; the one that the recipes name unless given."),
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove what is listed; without it nothing is changed.")
    ] = False,
    keep_days: Annotated[
        float, typer.Option(min=0, help="What was used within so many days stays.")
    ] = 14,
    drop_rejected: Annotated[
        bool,
        typer.Option(
            "--drop-rejected", help="Do not keep what only versions that were rejected refer to."
        ),
    ] = False,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what no recipe, version or history refers to, bytes by reason; --delete removes it."""
    from retune.cli.cleaning import CleanOptions, clean_store

    options = CleanOptions(delete, keep_days, drop_rejected)
    clean_store(recipes or [], store, overrides or [], options, as_json=as_json)


def send(
    recipe: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="Recipe whose store and tracking are meant.", metavar="RECIPE"),
    ] = None,
    store: Annotated[Path, typer.Option(help="Store folder, without a recipe.")] = Path(".retune"),
    as_json: JsonOption = False,
) -> None:
    """Send what MLflow did not get while it was away, in order and once."""
    from retune.cli.sending import send_kept

    send_kept(recipe, store, as_json=as_json)


def ui(
    recipe: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Recipe whose store and tracking are shown."),
    ] = None,
    store: Annotated[Path, typer.Option(help="Store folder, without a recipe.")] = Path(".retune"),
) -> None:
    """Open the Prefect dashboard and MLflow on free ports, until Ctrl-C."""
    from retune.cli.services.dashboards import serve_dashboards

    serve_dashboards(recipe, store)


DeploymentsOption = Annotated[
    Path, typer.Option(help="File of deployments; automations.yaml stands beside it.")
]


def serve(
    model: Annotated[
        str,
        typer.Argument(
            help="models:/NAME@ALIAS, models:/NAME/VERSION, a folder, a hub id.", metavar="MODEL"
        ),
    ],
    recipe: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Recipe whose registry is meant, and whose base an adapter is put on."),
    ] = None,
    store: Annotated[Path, typer.Option(help="Store folder, without a recipe.")] = Path(".retune"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What clients call the model; its own name unless given."),
    ] = None,
    keys: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="File of API keys, NAME:SHA256 a line; see docs/serving.md."),
    ] = None,
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Let other machines ask without a key.")
    ] = False,
    challenger: Annotated[
        bool, typer.Option("--challenger", help="Serve the challenger too, as NAME@challenger.")
    ] = False,
    canary: Annotated[
        float, typer.Option(min=0, max=50, help="Percent of requests that it answers.")
    ] = 0.0,
    shadow: Annotated[
        float, typer.Option(min=0, max=100, help="Percent that it is asked too, unseen.")
    ] = 0.0,
    key_requests: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Requests a minute of a key whose line names no limit."),
    ] = None,
    key_tokens: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Tokens a minute of it, of prompts and answers."),
    ] = None,
    database: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="NAME=FILE: a SQLite file that queries are tried on (validate: true)."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Most answers computed at a time.")] = 16,
    context: Annotated[int, typer.Option(min=16, help="Most tokens of prompt and answer.")] = 4096,
    default_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens of an answer whose request names no limit.")
    ] = 256,
    most_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of one answer.")] = 4096,
    queue: Annotated[int, typer.Option(min=1, help="Most requests at a time; more get 429.")] = 256,
    body_bytes: Annotated[int, typer.Option(min=1024, help="Longest body.")] = 1 << 20,
    timeout: Annotated[float, typer.Option(min=1, help="Most seconds for an answer.")] = 300.0,
    log_requests: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder that keeps what is asked and answered; nothing is kept unless."),
    ] = None,
    log_share: Annotated[float, typer.Option(min=0, max=1, help="Part that is kept.")] = 1.0,
    log_bytes: Annotated[int, typer.Option(min=1024, help="Size of one file of it.")] = 1 << 26,
    log_files: Annotated[int, typer.Option(min=1, help="Most files; the oldest goes.")] = 10,
    poll: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks at the alias.")
    ] = 15.0,
) -> None:
    """Answer over HTTP as the model was scored; follow the alias when it moves."""
    from retune.cli.services.serving import LogOptions, ServeOptions, serve_model
    from retune.serving.challenger import Trial
    from retune.serving.rates import Rate
    from retune.serving.server import Limits

    options = ServeOptions(
        host=host,
        port=port,
        recipe=recipe,
        store=store,
        name=name,
        keys=keys,
        without_keys=without_keys,
        rate=Rate(key_requests, key_tokens),
        databases=database or [],
        trial=Trial(canary / 100, shadow / 100) if challenger or canary or shadow else None,
        batch=batch,
        context=context,
        default_tokens=default_tokens,
        limits=Limits(body_bytes, queue, most_tokens, timeout),
        poll_seconds=poll,
        log=LogOptions(log_requests, log_share, log_bytes, log_files) if log_requests else None,
    )
    serve_model(model, options)


def up(
    deployments: DeploymentsOption = Path("deployments/prefect.yaml"),
    recipe: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Recipe whose store and tracking MLflow shows."),
    ] = None,
    store: Annotated[Path, typer.Option(help="Store folder, without a recipe.")] = Path(".retune"),
    port_prefect: Annotated[int, typer.Option(min=1, max=65535)] = 4200,
    port_mlflow: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Run the loop on this machine: Prefect, MLflow, a worker, deployments, until Ctrl-C."""
    from retune.cli.services.up import bring_up

    bring_up(deployments, recipe, store, prefect_port=port_prefect, mlflow_port=port_mlflow)


def deploy(deployments: DeploymentsOption = Path("deployments/prefect.yaml")) -> None:
    """Bring deployments and automations to the Prefect server that is set, as `up` does."""
    from retune.cli.services.deploying import deploy_project

    deploy_project(deployments)


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
    verify,
    gc,
    send,
    ui,
    serve,
    up,
    deploy,
    schema,
    version,
)
"""In the order of `retune --help`."""
