"""`retune deploy`: work pool, deployments and automations of a project, at a Prefect server.

Done again it changes nothing: what is there is found by its name.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rich.text import Text

import retune
from retune.cli.consoles import open_console
from retune.cli.services.automation_file import apply_automations, read_automations
from retune.cli.services.deployment_file import PlannedDeployment, read_deployments
from retune.cli.services.prefect_api import prepare_prefect
from retune.cli.services.prefect_settings import read_prefect_settings
from retune.digests import digest_json
from retune.errors import ConfigError, ServiceError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import DeploymentSchedule

DEVICE_TAG = "device"
"""Tag of all tasks that compute on the device."""
_APPLIED = "retune_deployments"
"""Prefect's variable that holds the digest of what was deployed last."""
_LINES_SHOWN = 15


@dataclass(frozen=True)
class Project:
    """What a project wants of a Prefect server.

    Attributes:
        file: Its deployments, in Prefect's form.
        deployments: The same, read.
        automations: Entries of the file `automations.yaml` beside it.
    """

    file: Path
    deployments: Sequence[PlannedDeployment]
    automations: list[dict[str, Any]]

    @property
    def pool(self) -> str:
        """The work pool of all its deployments."""
        return self.deployments[0].pool

    @property
    def digest(self) -> str:
        """Stands for the file and for its flows' parameters."""
        schemas = [each.schema for each in self.deployments]
        return digest_json([retune.__version__, self.file.read_text("utf-8"), schemas])


def deploy_project(file: Path) -> None:
    """Read a project's files, bring them to the server of Prefect's settings, and tell.

    Args:
        file: Deployments; automations stand beside it.

    Raises:
        ConfigError: Something in the files is wrong, or no server is set.
        ServiceError: The server does not answer, or refuses.
    """
    read_prefect_settings()
    project = read_project(file)
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        raise ConfigError(
            "PREFECT_API_URL is not set: there is no server to deploy to. Set it, such as to "
            "http://127.0.0.1:4200/api, or start everything with `retune up`."
        )
    prepare_prefect()
    console = open_console()
    for line in apply_project(project):
        console.print(Text(line), soft_wrap=True)


def read_project(file: Path) -> Project:
    """Read what is to be deployed, before anything is started.

    Args:
        file: Deployments; automations stand beside it.

    Returns:
        The project.

    Raises:
        ConfigError: Something in either file is wrong.
    """
    deployments = read_deployments(file)
    names = [each.name for each in deployments]
    return Project(file, deployments, read_automations(file.parent / "automations.yaml", names))


def apply_project(project: Project) -> list[str]:
    """Bring the server of Prefect's settings to what a project says.

    Args:
        project: From `read_project`.

    Returns:
        A line per deployment: its name, and when it runs next; then notes.

    Raises:
        ServiceError: The server, or Prefect's own `deploy`, refuses.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectException

    try:
        with get_client(sync_client=True) as client:
            _ensure_pool(client, project.pool)
            _ensure_limit(client)
            _ensure_deployments(client, project)
            found = {each.name: _read(client, each.name) for each in project.deployments}
            unset = apply_automations(
                client, project.automations, {name: one[0] for name, one in found.items()}
            )
    except PrefectException as error:
        raise ServiceError(f"Prefect refuses what {project.file} says: {error}") from error
    width = max(map(len, found))
    lines = [
        f"{name.ljust(width)}  {say_next(schedules)}" for name, (_, schedules) in found.items()
    ]
    return lines + [f"{name} is not set: nobody is sent a notice" for name in unset]


def say_next(schedules: Sequence[DeploymentSchedule]) -> str:
    """Say when a deployment runs next.

    Args:
        schedules: Its schedules.

    Returns:
        The time in the schedule's own zone, or that nothing starts it by itself.
    """
    from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
    from pydantic import TypeAdapter

    kinds: TypeAdapter[Any] = TypeAdapter(CronSchedule | IntervalSchedule | RRuleSchedule)
    times = []
    for each in schedules:
        if each.active:
            timed = kinds.validate_python(each.schedule.model_dump())
            dates = asyncio.run(timed.get_dates(1))
            times += [(date, getattr(each.schedule, "timezone", None) or "UTC") for date in dates]
    if not times:
        return "by hand; its schedule is off" if schedules else "by hand"
    date, zone = min(times, key=lambda time: time[0].astimezone(UTC))
    return f"next {datetime.isoformat(date, ' ', 'minutes')[:16]} {zone}"


def _ensure_pool(client: SyncPrefectClient, name: str) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))


def _ensure_limit(client: SyncPrefectClient) -> None:
    """Let one task at a time compute on the device, unless a person allows another number.

    A slot is leased for a minute and renewed: a run that was killed gives it back.
    """
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectNotFound

    name = f"tag:{DEVICE_TAG}"
    try:
        client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))


def _ensure_deployments(client: SyncPrefectClient, project: Project) -> None:
    """Deploy, unless that was done with the same file.

    Deploying again would switch a schedule off that a person switched on in the UI.
    """
    from prefect.variables import Variable

    if _has_all(client, project) and Variable.get(_APPLIED) == project.digest:
        return
    _deploy(project.file)
    Variable.set(_APPLIED, project.digest, overwrite=True)


def _has_all(client: SyncPrefectClient, project: Project) -> bool:
    from prefect.exceptions import ObjectNotFound

    try:
        for each in project.deployments:
            client.read_deployment_by_name(each.name)
    except ObjectNotFound:
        return False
    return True


def _deploy(file: Path) -> None:
    from prefect.settings import PREFECT_API_URL

    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(
        [*command, "--prefect-file", str(file)],
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
        check=False,
    )
    if done.returncode:
        told = (done.stdout + done.stderr).strip().splitlines()[-_LINES_SHOWN:]
        raise ServiceError("\n".join([f"{file}: `prefect deploy` failed:", *told]))


def _read(client: SyncPrefectClient, name: str) -> tuple[UUID, list[DeploymentSchedule]]:
    found = client.read_deployment_by_name(name)
    return found.id, list(found.schedules)
