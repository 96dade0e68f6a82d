"""`retune up`: Prefect, MLflow, a worker and the deployments of a project, until Ctrl-C.

Nothing is kept here: runs, schedules and models are in the databases of Prefect and MLflow, and
artifacts in the store. Started again it finds all of it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from rich.console import Console
from rich.text import Text

from retune.cli.consoles import open_console
from retune.cli.services.dashboards import interrupt_on_sigterm
from retune.cli.services.deploying import Project, apply_project, read_project
from retune.cli.services.places import locate_services
from retune.cli.services.prefect_settings import read_prefect_settings
from retune.cli.services.servers import (
    Service,
    mlflow_server,
    prefect_server,
    refuse_taken_port,
    taken_port,
)
from retune.errors import ServiceError
from retune.spine.device_lock import FOLDER_VARIABLE
from retune.spine.process import STOP_GRACE_SECONDS
from retune.tracking import check_tracking

_MOST_RESTARTS = 3
_WITHIN_SECONDS = 600.0
"""What ends more often than that, in this time, has a cause that starting does not mend."""
_LOOK_EVERY_SECONDS = 0.5
_FLOW_SECONDS = STOP_GRACE_SECONDS + 5.0
_HEARTBEAT_SECONDS = 30
"""The shortest that Prefect allows; deployments/automations.yaml counts on it."""
_PR_SET_CHILD_SUBREAPER = 36


def bring_up(
    deployments: Path, recipe: Path | None, store: Path, *, prefect_port: int, mlflow_port: int
) -> None:
    """Start everything, print where it is, keep it running, and stop it cleanly.

    Args:
        deployments: File of deployments, in Prefect's form.
        recipe: Recipe whose store and tracking MLflow shows; None takes `store`.
        store: Store folder, without a recipe.
        prefect_port: Where Prefect listens.
        mlflow_port: Where MLflow listens.

    Raises:
        ConfigError: The files are wrong; nothing was started.
        ServiceError: A port is taken, or something does not come up or stay up.
    """
    console = open_console()
    root, tracking = locate_services(recipe, store)
    for note in tracking.notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
    read_prefect_settings()
    with console.status("reading the deployments"):
        project = read_project(deployments)
    claims = [_claim_port("Prefect", prefect_port, "--port-prefect")]
    check_tracking(tracking.uri)
    logs = root / "logs"
    servers = [prefect_server(prefect_port, logs / "prefect.log")]
    mlflow = tracking.uri
    if not mlflow.startswith(("http://", "https://")):
        claims.append(_claim_port("MLflow", mlflow_port, "--port-mlflow"))
        servers.append(mlflow_server(mlflow_port, mlflow, root, logs / "mlflow.log"))
        mlflow = servers[-1].address
    worker = _describe_worker(project.pool, servers[0].address, mlflow, root)
    interrupt_on_sigterm()
    _adopt_orphans()
    try:
        _start(console, servers, project, worker, mlflow)
        _keep_running(console, [*servers, worker])
    except KeyboardInterrupt:
        console.print("stopping; a run that trains seals its last checkpoint first")
    finally:
        # A second Ctrl-C must not leave half of it behind; all waits below have an end.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        _stop(worker, servers)
        for claim in claims:
            claim.release()


def _claim_port(name: str, port: int, option: str) -> FileLock:
    """Keep a port from the start: a server listens only seconds after it was started.

    Two commands that start at once would each take the other's server for its own.
    """
    folder = _locks_folder()
    folder.mkdir(parents=True, exist_ok=True)
    claim = FileLock(folder / f"port-{port}.lock")
    try:
        claim.acquire(timeout=0)
    except Timeout as error:
        raise taken_port(name, port, option, "a `retune up` has it") from error
    refuse_taken_port(name, port, option)
    return claim


def _describe_worker(pool: str, prefect: str, mlflow: str, root: Path) -> Service:
    environment = {
        **os.environ,
        "PREFECT_API_URL": f"{prefect}/api",
        "PREFECT_UI_URL": prefect,
        "MLFLOW_TRACKING_URI": mlflow,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(_HEARTBEAT_SECONDS),
        # Not below the store: another project's runs want the same device.
        FOLDER_VARIABLE: os.environ.get(FOLDER_VARIABLE) or str(_locks_folder()),
    }
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
    command += ["--type", "process", "--install-policy", "never"]
    return Service("Worker", command, environment, log=root / "logs" / "worker.log")


def _locks_folder() -> Path:
    return Path(os.environ.get("XDG_RUNTIME_DIR") or Path.home() / ".cache") / "retune"


def _start(
    console: Console, servers: Sequence[Service], project: Project, worker: Service, mlflow: str
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    for server in servers:
        server.start()
    for server in servers:
        with console.status(f"starting {server.name}"):
            server.wait()
    with (
        console.status("deploying"),
        temporary_settings({PREFECT_API_URL: f"{servers[0].address}/api"}),
    ):
        lines = apply_project(project)
    worker.start()
    for name, told in (
        ("Prefect", servers[0].address),
        ("MLflow", mlflow),
        ("Worker", f"pool {project.pool}, at most one run on the device"),
        ("Logs", str(worker.log.parent if worker.log else "")),
        # Without it Prefect's commands start a server of their own, and `retune status` none.
        ("Set", f"export PREFECT_API_URL={servers[0].address}/api   (in other terminals)"),
    ):
        console.print(Text(f"{name.ljust(8)} {told}"), soft_wrap=True)
    for line in lines:
        console.print(Text(f"  {line}"), soft_wrap=True)
    console.print("Ctrl-C stops all.")


def _keep_running(console: Console, services: Sequence[Service]) -> None:
    restarts: dict[str, deque[float]] = defaultdict(deque)
    while True:
        for service in services:
            if service.ended is not None:
                _restart(console, service, restarts[service.name])
        time.sleep(_LOOK_EVERY_SECONDS)


def _restart(console: Console, service: Service, earlier: deque[float]) -> None:
    now = time.monotonic()
    while earlier and now - earlier[0] > _WITHIN_SECONDS:
        earlier.popleft()
    if len(earlier) == _MOST_RESTARTS:
        raise ServiceError(
            f"{service.name} ended with exit code {service.ended}, for the {_MOST_RESTARTS + 1}th "
            f"time in {_WITHIN_SECONDS / 60:.0f} minutes. {service.say_log()}"
        )
    earlier.append(now)
    told = f"{service.name} ended with exit code {service.ended}; starting it again"
    console.print(Text(told, style="yellow"), soft_wrap=True)
    service.start()
    service.wait()


def _stop(worker: Service, servers: Sequence[Service]) -> None:
    """End runs, then the worker, then the servers that both report to."""
    runs = _runs_of(worker)
    for run in runs:
        _signal(run, signal.SIGTERM)
    psutil.wait_procs(runs, timeout=_FLOW_SECONDS)
    for service in (worker, *servers):
        service.stop()
    # What lost its parent on the way came to us.
    left = psutil.Process().children(recursive=True)
    for process in left:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(left, timeout=_LOOK_EVERY_SECONDS)


def _runs_of(worker: Service) -> list[psutil.Process]:
    """Return the processes of flow runs: each leads a session of its own."""
    if worker.process is None:
        return []
    ours = psutil.Process().children(recursive=True)
    return [each for each in ours if _is_run(each)]


def _is_run(process: psutil.Process) -> bool:
    try:
        return bool({"PREFECT__FLOW_RUN_ID"} & process.environ().keys()) and (
            os.getsid(process.pid) == process.pid
        )
    except (psutil.Error, OSError):
        return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _adopt_orphans() -> None:
    """Have grandchildren whose parent dies become our children, so that none is lost sight of."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
