"""The third way to run: a Prefect server, a process worker and `prefect deployment run`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from retune.cli.dashboards import stop_server, wait_until_healthy
from tests.flows.conftest import environment
from tests.tiny_models import REPOSITORY
from tests.waiting import GUARD_SECONDS, free_port, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.service]


@pytest.fixture
def prefect_server(project: Path) -> Iterator[dict[str, str]]:
    """A Prefect server on a free port; yields the environment that reaches it."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    reached = {
        **environment(project.parent, own_server=True),
        "PREFECT_API_URL": f"{address}/api",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
        env=reached,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until_healthy("Prefect", server, f"{address}/api/health")
        yield reached
    finally:
        stop_server(server)


def prefect(reached: dict[str, str], folder: Path, *arguments: str) -> str:
    """Run a Prefect command in a folder and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        capture_output=True,
        text=True,
        env=reached,
        cwd=folder,
        timeout=GUARD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_worker_runs_the_deployment_under_the_same_stage_keys(
    prefect_server: dict[str, str], finished: tuple[Path, dict[str, Any]], project: Path
) -> None:
    """`deployments/prefect.yaml` is deployed as it ships; its run reuses what the CLI computed."""
    folder = project.parent
    shutil.copytree(REPOSITORY / "deployments", folder / "deployments")
    for ring in ("flows", "tasks"):
        shutil.copytree(REPOSITORY / ring, folder / ring)
    prefect(prefect_server, folder, "work-pool", "create", "retune", "--type", "process")
    prefect(prefect_server, folder, "deploy", "--prefect-file", "deployments/prefect.yaml", "--all")
    worker = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "retune", "--limit", "1"],
        env=prefect_server,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        prefect(
            prefect_server,
            folder,
            "deployment",
            "run",
            "finetune/text-to-sql-demo",
            "--param",
            f"recipe={project}",
        )
        run = _wait_for_end(prefect_server["PREFECT_API_URL"])
        _wait_for_child(worker)
    finally:
        # A worker that is asked to end may take its time, or never do: that is Prefect's affair.
        stop_server(worker)
    assert run["state_type"] == "COMPLETED"
    tasks = [
        task
        for task in _post(prefect_server["PREFECT_API_URL"], "task_runs/filter")
        if task["flow_run_id"] == run["id"]
    ]
    assert len(tasks) == len(finished[1]["stages"])
    assert {task["state"]["type"] for task in tasks} == {"COMPLETED"}
    assert _stage_folders(folder) == _stage_folders(finished[0].parent)


def _wait_for_child(worker: subprocess.Popen[bytes]) -> None:
    """Wait until the worker's flow process is gone: the run's state is told before it ends.

    A worker that is stopped while it still watches a flow process waits for that one.
    """
    watched = psutil.Process(worker.pid)
    wait_until(lambda: not watched.children(recursive=True), what="the flow process's end")


def _stage_folders(folder: Path) -> set[str]:
    return {
        manifest.parent.relative_to(folder).as_posix()
        for manifest in (folder / ".retune").glob("*/*/manifest.json")
    }


def _post(address: str, what: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.post(
        f"{address}/{what}", json={}, timeout=GUARD_SECONDS
    ).json()
    return found


def _wait_for_end(address: str) -> dict[str, Any]:
    end = time.monotonic() + GUARD_SECONDS
    while time.monotonic() < end:
        # The copied project brings the run of the command line along; it has no deployment.
        runs = [run for run in _post(address, "flow_runs/filter") if run["deployment_id"]]
        if runs and runs[0]["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return runs[0]
        time.sleep(1)
    raise AssertionError("the deployment run did not end")
