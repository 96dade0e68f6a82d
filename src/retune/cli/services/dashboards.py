"""`retune ui`: Prefect's dashboard and MLflow's, on free ports, until Ctrl-C."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from rich.text import Text

from retune.cli.consoles import open_console
from retune.cli.services.places import locate_services
from retune.cli.services.prefect_settings import read_prefect_settings
from retune.cli.services.servers import free_port, mlflow_server, prefect_server
from retune.errors import ServiceError
from retune.tracking import check_tracking


def serve_dashboards(recipe: Path | None, store: Path) -> None:
    """Start both servers, print their addresses, and stop them cleanly.

    Args:
        recipe: Recipe whose store and tracking are shown; None takes `store`.
        store: Store folder, without a recipe.

    Raises:
        ServiceError: A server does not come up.
    """
    console = open_console()
    root, tracking = locate_services(recipe, store)
    for note in tracking.notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
    uri = tracking.uri
    check_tracking(uri)
    read_prefect_settings()
    servers = (prefect_server(free_port()), mlflow_server(free_port(), uri, root))
    interrupt_on_sigterm()
    try:
        for server in servers:
            server.start()
        for server in servers:
            with console.status(f"starting {server.name}"):
                server.wait()
            console.print(Text(f"{server.name.ljust(8)} {server.address}"))
        console.print("Ctrl-C stops both.")
        while all(server.ended is None for server in servers):
            time.sleep(0.5)
        raise ServiceError("A dashboard ended by itself. Start again with --debug to see its log.")
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        for server in servers:
            server.stop()


def interrupt_on_sigterm() -> None:
    """Let SIGTERM end this command as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _raise_interrupt)


def _raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt
