"""Commands, their options, and what becomes of errors."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

import retune
from retune.cli.collecting import collect
from retune.cli.comparing import compare, sweep
from retune.cli.estimating import estimate
from retune.errors import INTERRUPTED, Interrupted, RetuneError

# typer carries a click of its own and exports only the leaves of its tree of errors.
_UsageError: Any = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="retune",
    help="Retrain language models on a schedule, and let nothing worse reach production.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_WITHOUT_LIBRARIES = ("schema", "version")
"""Commands that import nothing which the environment could break."""

RecipeArgument = Annotated[Path, typer.Argument(help="The recipe's YAML file.", metavar="RECIPE")]
SetOption = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads annotations at run time
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="Override a setting: training.learning_rate=1.0e-4"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object last, on stdout.")]


@app.callback()
def _common(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and all logs.")] = False,
) -> None:
    from retune.cli import settings

    settings.debug = debug
    if context.invoked_subcommand not in _WITHOUT_LIBRARIES:
        from retune.hub_variables import refuse_wrong_hub_variables

        refuse_wrong_hub_variables()


@app.command()
def run(recipe: RecipeArgument, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Retrain: run every stage that is not stored yet, decide, register."""
    from retune.cli.running import run_recipe

    run_recipe(recipe, overrides or [], as_json=as_json)


@app.command()
def plan(recipe: RecipeArgument, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Show for each stage whether it would be reused or run, and why. Runs nothing."""
    from retune.cli.planning import plan_recipe

    plan_recipe(recipe, overrides or [], as_json=as_json)


@app.command()
def check(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    show: Annotated[int, typer.Option(help="Rows to print with their target tokens.")] = 2,
) -> None:
    """Look at recipe, model, data, template and loss mask before anything expensive starts."""
    from retune.cli.checking import check_recipe

    check_recipe(recipe, overrides or [], show=show)


@app.command()
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
    from retune.cli.evaluating import evaluate_models

    evaluate_models(recipe, models, overrides or [], out=out, as_json=as_json)


app.command()(compare)


app.command()(sweep)


app.command()(estimate)


app.command()(collect)


@app.command()
def doctor() -> None:
    """Look at this machine: versions, device, Prefect, MLflow, disk."""
    from retune.cli.doctor import examine

    examine()


@app.command()
def ui(
    recipe: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Recipe whose store and tracking are shown."),
    ] = None,
    store: Annotated[Path, typer.Option(help="Store folder, without a recipe.")] = Path(".retune"),
) -> None:
    """Open the Prefect dashboard and MLflow on free ports, until Ctrl-C."""
    from retune.cli.dashboards import serve_dashboards

    serve_dashboards(recipe, store)


@app.command()
def schema() -> None:
    """Print the JSON schema of a recipe, for editors and forms."""
    from retune.recipe import recipe_schema_text

    sys.stdout.write(recipe_schema_text())


@app.command()
def version() -> None:
    """Print retune's version."""
    typer.echo(retune.__version__)


def main() -> None:
    """Run the command line and exit with the code that `retune.errors` gives the outcome."""
    from retune.proxies import settle_proxies
    from retune.streams import lost_output, settle_streams

    settle_streams()
    settle_proxies()
    code = _run()
    sys.stdout.flush()
    if lost := lost_output():
        sys.stderr.write(f"{lost}\n")
    sys.exit(code)


def _run() -> int:
    try:
        code = app(standalone_mode=False)
    except RetuneError as error:
        return _fail(error, error.message, error.exit_code)
    except (KeyboardInterrupt, typer.Abort) as error:
        return _fail(
            error,
            INTERRUPTED,
            Interrupted.exit_code,
        )
    except _UsageError as error:
        error.show()
        return int(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last resort, said as what it is
        return _fail(
            error,
            f"Unexpected {type(error).__name__}: {error}\nThis is a bug of retune or of a library "
            "under it. Run again with --debug before the command to see where.",
            1,
        )
    return code if isinstance(code, int) else 0


def _fail(error: BaseException, message: str, code: int) -> int:
    from rich.text import Text

    from retune.cli import settings
    from retune.cli.consoles import open_console

    if settings.debug:
        traceback.print_exception(error)
    open_console(stderr=True).print(Text(message, style="bold red"), soft_wrap=True)
    return code
