"""The commands that run servers, and their options; what each does is imported when called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from retune.cli.options import STORE, StoreOption

DeploymentsOption = Annotated[
    Path, typer.Option(help="File of deployments; automations.yaml stands beside it.")
]


def ui(
    recipe: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Recipe whose store and tracking are shown."),
    ] = None,
    store: StoreOption = STORE,
) -> None:
    """Open the Prefect dashboard and MLflow on free ports, until Ctrl-C."""
    from retune.cli.services.dashboards import serve_dashboards

    serve_dashboards(recipe, store)


def serve(
    model: Annotated[
        list[str],
        typer.Argument(
            help="models:/NAME@ALIAS, models:/NAME/VERSION, a folder, a hub id; several are asked "
            "by their names.",
            metavar="MODEL...",
        ),
    ],
    recipe: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Recipe whose registry is meant, and whose base an adapter is put on."),
    ] = None,
    store: StoreOption = STORE,
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
    most_slowdown: Annotated[
        float,
        typer.Option(min=1, help="Times the champion's median that its answers may take; or inf."),
    ] = 2.0,
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
    engine: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="http://HOST:PORT of vLLM or the like, which computes in its place."),
    ] = None,
    engine_model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What it calls the model; NAME-VERSION unless given."),
    ] = None,
    print_vllm: Annotated[
        bool, typer.Option("--print-vllm", help="Print the command of vLLM for it, and end.")
    ] = False,
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
    swap: Annotated[
        Literal["auto", "beside", "drain"],
        typer.Option(help="How a new version comes: beside the old one, or once that has drained."),
    ] = "auto",
) -> None:
    """Answer over HTTP as the model was scored; follow the alias when it moves."""
    from retune.cli.services.serving import LogOptions, ServeOptions, print_command, serve_model
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
        trial=Trial(canary / 100, shadow / 100, most_slowdown)
        if challenger or canary or shadow
        else None,
        engine=engine,
        engine_model=engine_model,
        batch=batch,
        context=context,
        default_tokens=default_tokens,
        limits=Limits(body_bytes, queue, most_tokens, timeout),
        poll_seconds=poll,
        swap=swap,
        log=LogOptions(log_requests, log_share, log_bytes, log_files) if log_requests else None,
    )
    if print_vllm:
        print_command(model, options)
    else:
        serve_model(model, options)


def pairs(
    folder: Annotated[
        Path, typer.Argument(help="Folder of retune serve --log-requests.", metavar="FOLDER")
    ],
    recipe: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Recipe that says how queries are scored."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")] = False,
) -> None:
    """Compare champion and challenger on the requests that both answered (--shadow)."""
    from retune.cli.services.served_pairs import show_pairs

    show_pairs(folder, recipe, as_json=as_json)


def up(
    deployments: DeploymentsOption = Path("deployments/prefect.yaml"),
    recipe: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Recipe whose store and tracking MLflow shows."),
    ] = None,
    store: StoreOption = STORE,
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


SERVICE_COMMANDS = (ui, serve, pairs, up, deploy)
"""In the order of `retune --help`."""
