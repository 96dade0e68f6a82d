"""One Prefect server for all runs of a test process, and one empty MLflow database to copy.

A run without PREFECT_API_URL starts a server of its own over an empty database: 21 s of processor
time, most of it imports and migrations, in each of some seventy runs. Tests about that server ask
for it (``own_server=True``).
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retune.cli.services.servers import stop_server
from retune.tracking import check_tracking, default_uri
from tests.waiting import free_port, wait_until

_PR_SET_PDEATHSIG = 1
_STARTED: list[subprocess.Popen[bytes]] = []
_HOME = Path(tempfile.gettempdir()) / f"retune-serving-{os.getpid()}"


@functools.cache
def prefect_address() -> str:
    """Return the API's address of this process's server, started by the first call."""
    import httpx

    port = free_port()
    address = f"http://127.0.0.1:{port}/api"
    # Prefect makes its home, but no folder above it.
    _HOME.mkdir(exist_ok=True)
    # Runs ask its API; what it would do by itself (schedules, late runs, automations, events kept)
    # has tests with servers of their own.
    only_the_api = ["--no-ui", "--no-services"]
    server = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", *only_the_api, "--port", str(port)],
        env={
            **os.environ,
            "PREFECT_HOME": str(_HOME / "prefect"),
            "PREFECT_API_URL": address,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )
    _STARTED.append(server)

    def answers() -> bool:
        assert server.poll() is None, f"Prefect's server ended with code {server.returncode}"
        try:
            return httpx.get(f"{address}/health").is_success
        except httpx.HTTPError:
            return False

    wait_until(answers, what="Prefect's server")
    return address


@contextmanager
def on_shared_server() -> Iterator[None]:
    """Have what this process itself asks of Prefect, and tells it, go to that server."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: prefect_address()}):
        yield


def _die_with_parent() -> None:
    """Have Linux end this process when the one that started it is killed, and cannot."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def copy_tracking_database(store: Path) -> None:
    """Give a store an MLflow database that is empty and up to date, as its first run would."""
    template = _tracking_template()
    target = store / template.relative_to(_HOME / "store")
    target.parent.mkdir(parents=True)
    shutil.copy(template, target)


@functools.cache
def _tracking_template() -> Path:
    uri = default_uri(_HOME / "store")
    check_tracking(uri)
    return Path(uri.removeprefix("sqlite:///"))


def stop() -> None:
    """End what was started, and remove its files."""
    for server in _STARTED:
        stop_server(server)
    shutil.rmtree(_HOME, ignore_errors=True)
