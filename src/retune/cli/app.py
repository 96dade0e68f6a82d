"""The command line: what is settled before a command, and what becomes of errors."""

from __future__ import annotations

import gc
import sys
import traceback
from typing import Annotated, Any

import typer

from retune.cli.commands import COMMANDS
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

_SELDOM = (20_000, 20, 20)
"""Objects, and passes of the generation below, between two passes of each generation."""

_WITHOUT_LIBRARIES = ("schema", "version")
"""Commands that import nothing which the environment could break."""


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


for _command in COMMANDS:
    app.command()(_command)


def main() -> None:
    """Run the command line and exit with the code that `retune.errors` gives the outcome."""
    # A command makes half a million objects that stay, most of them while it imports Prefect and
    # MLflow: at Python's own thresholds looking for cycles among them is a tenth of its time.
    gc.set_threshold(*_SELDOM)
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
    from retune.recipe.credentials import masked

    if settings.debug:
        traceback.print_exception(error)
    open_console(stderr=True).print(Text(masked(message), style="bold red"), soft_wrap=True)
    return code
