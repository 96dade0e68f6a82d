"""A flow in a terminal: Prefect's API first, a line per stage, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pkgutil import resolve_name
from typing import Any, TypeVar

from rich.console import Console

from retune.cli.consoles import open_console
from retune.cli.runs.interrupting import bound_interrupt
from retune.cli.runs.losing_prefect import keeping_outcome
from retune.cli.runs.terminal_watcher import TerminalWatcher
from retune.cli.services.prefect_api import prepare_prefect
from retune.errors import INTERRUPTED, Interrupted
from retune.records import Record
from retune.spine.process import STOP_GRACE_SECONDS
from retune.tracking.connecting import import_client
from retune.watching import WATCHER

Result = TypeVar("Result", bound=Record)

INTERRUPT_SECONDS = STOP_GRACE_SECONDS + 5.0
"""How long a flow with a stage process may take to end on Ctrl-C."""


def run_flow(
    flow: str,
    arguments: dict[str, Any],
    show: Callable[[Console, Result], None],
    *,
    as_json: bool,
    interrupt_seconds: float = INTERRUPT_SECONDS,
    interrupted: str = INTERRUPTED,
) -> None:
    """Run a flow and print what it returns.

    What is wrong or missing is said by the caller before: nothing has been started then.

    Args:
        flow: ``module:function``; imported once Prefect is set up.
        arguments: Of the flow.
        show: Prints its result.
        as_json: Print the result as one JSON object last, alone on standard output.
        interrupt_seconds: How long it may take to end on Ctrl-C.
        interrupted: What is said then.

    Raises:
        RetuneError: Whatever stopped the flow.
    """
    console = open_console(stderr=as_json)
    with console.status("starting Prefect"):
        prepare_prefect(meanwhile=partial(_import_ahead, flow))
        call = resolve_name(flow)
    bound_interrupt(interrupt_seconds, interrupted)
    try:
        with TerminalWatcher(console) as watcher, keeping_outcome(call) as outcome:
            WATCHER.set(watcher)
            call(**arguments)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(interrupted) from interrupt
    result: Result = outcome.returned[-1]
    if outcome.unheard is not None:
        console.print(
            "Prefect's API does not answer and shows this run as running; the run is whole.",
            style="yellow",
        )
    show(console, result)
    if as_json:
        print(json.dumps(result.model_dump(mode="json")))


def _import_ahead(flow: str) -> None:
    """Import what the flow will need: some seconds, in which the server starts on another core."""
    resolve_name(flow)
    import_client()
