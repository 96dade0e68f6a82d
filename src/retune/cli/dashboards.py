"""`retune ui`: Prefect's dashboard and MLflow's, on free ports, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
from rich.text import Text

from retune.cli.consoles import open_console
from retune.cli.prefect_settings import read_prefect_settings
from retune.errors import ServiceError
from retune.recipe.loading import load_recipe
from retune.tracking import Tracking, check_tracking, choose_tracking, default_artifact_root

_START_SECONDS = 90.0
_STOP_SECONDS = 10.0


def serve_dashboards(recipe: Path | None, store: Path) -> None:
    """Start both servers, print their addresses, and stop them cleanly.

    Args:
        recipe: Recipe whose store and tracking are shown; None takes `store`.
        store: Store folder, without a recipe.

    Raises:
        ServiceError: A server does not come up.
    """
    console = open_console()
    root, tracking = _locations(recipe, store)
    for note in tracking.notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
    uri = tracking.uri
    check_tracking(uri)
    read_prefect_settings()
    prefect_port, mlflow_port = free_port(), free_port()
    servers = {
        "Prefect": (start_prefect(prefect_port), f"http://127.0.0.1:{prefect_port}", "/api/health"),
        "MLflow": (
            start_mlflow(mlflow_port, uri, root),
            f"http://127.0.0.1:{mlflow_port}",
            "/health",
        ),
    }
    signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        for name, (process, address, health) in servers.items():
            with console.status(f"starting {name}"):
                wait_until_healthy(name, process, address + health)
            console.print(Text(f"{name.ljust(8)} {address}"))
        console.print("Ctrl-C stops both.")
        while all(process.poll() is None for process, _, _ in servers.values()):
            time.sleep(0.5)
        raise ServiceError("A dashboard ended by itself. Start again with --debug to see its log.")
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        for process, _, _ in servers.values():
            stop_server(process)


def _raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _locations(recipe: Path | None, store: Path) -> tuple[Path, Tracking]:
    if recipe is None:
        root = store.resolve()
        return root, choose_tracking(
            None, None, name="", store_root=root, resolve=lambda path: path.expanduser().absolute()
        )
    from tasks.running import track

    loaded = load_recipe(recipe)
    root = loaded.resolve(loaded.recipe.store.folder)
    return root, track(loaded, root)


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_prefect(port: int) -> subprocess.Popen[bytes]:
    """Start a Prefect server over the user's own database."""
    environment = {
        **os.environ,
        # The UI calls the address of this setting, not that of --port.
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    return _start(
        [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)], environment
    )


def start_mlflow(port: int, uri: str, root: Path) -> subprocess.Popen[bytes]:
    """Start an MLflow server over a tracking address."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", uri, "--workers", "1"]
    command += ["--default-artifact-root", default_artifact_root(root)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return _start(command, environment)


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    from retune.cli import settings

    output = None if settings.debug else subprocess.DEVNULL
    # A session of its own: Ctrl-C reaches us alone, and we stop the whole group.
    return subprocess.Popen(
        command, env=environment, stdout=output, stderr=output, start_new_session=True
    )


def wait_until_healthy(name: str, process: subprocess.Popen[bytes], address: str) -> None:
    """Wait until a server answers.

    Raises:
        ServiceError: It ended, or did not answer in time.
    """
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise ServiceError(f"{name} ended with exit code {process.returncode} while starting.")
        try:
            if httpx.get(address, timeout=2.0).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.3)
    raise ServiceError(f"{name} did not answer at {address} within {_START_SECONDS:.0f} s.")


def stop_server(process: subprocess.Popen[bytes]) -> None:
    """End a server and its workers: asked first, killed after a grace period."""
    for wish in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, wish)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
