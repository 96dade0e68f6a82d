"""A file of deployments, read as Prefect reads it, and refused before anything is started.

Prefect itself tells of a schedule or a parameter that is wrong when the deployment is made, or when
its first run fails at night.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from retune.errors import ConfigError, RetuneError
from retune.recipe.loading import load_recipe

if TYPE_CHECKING:
    from prefect import Flow

_SCHEDULE_KINDS = ("cron", "interval", "rrule")
_SCHEDULE_KEYS = {
    *(*_SCHEDULE_KINDS, "timezone", "active", "day_or", "anchor_date", "slug", "parameters"),
    *("max_scheduled_runs", "catchup", "replaces"),
}
_SHAPES = (
    ("name", str, "a name"),
    ("work_pool", dict, "keys such as name"),
    ("schedules", list, "a list"),
    ("parameters", dict, "each parameter with its value"),
)
_TEMPLATE = "{{"
"""A value with it is filled in by Prefect, from its variables, blocks or the environment."""


@dataclass(frozen=True)
class PlannedDeployment:
    """One deployment of a file.

    Attributes:
        name: ``FLOW/NAME``, as `prefect deployment run` takes it.
        pool: Work pool that its runs go to.
        schema: JSON schema of its parameters.
    """

    name: str
    pool: str
    schema: dict[str, Any]


def read_deployments(path: Path) -> list[PlannedDeployment]:
    """Read a file of deployments, importing its flows.

    Args:
        path: The file, such as ``deployments/prefect.yaml``; what it names starts at the working
            folder, as it does for the worker.

    Returns:
        Its deployments, in their order.

    Raises:
        ConfigError: Something in it is wrong; the message lists all of it.
    """
    found: list[PlannedDeployment] = []
    faults: list[str] = []
    for number, entry in enumerate(_entries(path), 1):
        given = entry if isinstance(entry, dict) else {}
        label = f"{path}: deployments[{number}] ({given.get('name') or 'without a name'})"
        planned, wrong = _plan(given)
        faults += [f"{label}: {each}" for each in wrong]
        if planned is not None and planned.name in {each.name for each in found}:
            faults.append(f"{label}: {planned.name} stands here twice; the last one would win")
        found += [planned] if planned is not None else []
    pools = sorted({each.pool for each in found if each.pool})
    if len(pools) > 1:
        faults.append(
            f"{path}: found work pools {', '.join(pools)}; one worker serves one pool. Name the "
            "same one everywhere, or start workers by hand (deployments/README.md)"
        )
    if faults:
        raise ConfigError("\n".join(faults))
    return found


def _entries(path: Path) -> list[Any]:
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: no deployments can be read there ({error.strerror or error}). Start in the "
            "project's folder, or name the file with --deployments."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no YAML ({error})") from error
    entries = document.get("deployments") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ConfigError(
            f"{path}: found no list `deployments`; expected one as in retune's own "
            "deployments/prefect.yaml."
        )
    return entries


def _plan(entry: dict[str, Any]) -> tuple[PlannedDeployment | None, list[str]]:
    """Return what an entry asks for, None where that cannot be said, and what is wrong with it."""
    from prefect.utilities.callables import parameter_schema

    wrong = [
        f"{key}: found {entry[key]!r}; expected {told}"
        for key, kind, told in _SHAPES
        if entry.get(key) is not None and not isinstance(entry[key], kind)
    ]
    if wrong:
        return None, wrong
    name, pool = entry.get("name"), (entry.get("work_pool") or {}).get("name")
    needed = (("name", name), ("work_pool.name", pool))
    wrong += [f"{key} is missing" for key, value in needed if not value]
    schedules = entry.get("schedules") or []
    wrong += [fault for each in schedules for fault in _judge_schedule(each)]
    flow = _load_flow(entry.get("entrypoint"))
    if isinstance(flow, str):
        return None, [*wrong, flow]
    schema = parameter_schema(flow).model_dump()
    wrong += _judge_parameters(entry.get("parameters") or {}, schema, "parameters")
    for each in schedules:
        own = each.get("parameters") if isinstance(each, dict) else None
        wrong += _judge_parameters(own or {}, schema, "schedules: parameters")
    return PlannedDeployment(f"{flow.name}/{name}", str(pool or ""), schema), wrong


def _load_flow(entrypoint: Any) -> Flow[..., Any] | str:
    """Return the flow that an entrypoint names, or what is wrong with it."""
    from prefect.flows import load_flow_from_entrypoint

    if not isinstance(entrypoint, str) or "." not in entrypoint:
        return f"entrypoint: found {entrypoint!r}; expected one such as flows.finetune.finetune"
    try:
        return load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    except Exception as error:  # noqa: BLE001 - whatever its module does; told as what it is
        return f"entrypoint: {entrypoint} is no flow ({type(error).__name__}: {error})"


def _judge_schedule(entry: Any) -> list[str]:
    from prefect.cli.deploy._schedules import _schedule_config_to_deployment_schedule
    from pydantic import ValidationError

    if not isinstance(entry, dict) or len(kinds := [k for k in _SCHEDULE_KINDS if k in entry]) != 1:
        return [f"schedules: found {entry!r}; expected one of {', '.join(_SCHEDULE_KINDS)}"]
    wrong = [
        f"schedules: {key} is none of {', '.join(sorted(_SCHEDULE_KEYS))}"
        for key in entry.keys() - _SCHEDULE_KEYS
    ]
    if any(_TEMPLATE in str(value) for value in entry.values()):
        return wrong
    kind = kinds[0]
    try:
        # Prefect's own reading, so that what is taken here is what it makes of it.
        _schedule_config_to_deployment_schedule(entry)
    except ValidationError as error:
        wrong += [
            f"schedules: {_dotted(each['loc']) or kind}: found {each['input']!r}; "
            f"{each['msg'].removeprefix('Value error, ')}"
            for each in error.errors(include_url=False)
        ]
    except (ValueError, TypeError) as error:
        wrong.append(f"schedules: {kind}: found {entry[kind]!r}; {error}")
    return wrong


def _judge_parameters(given: dict[str, Any], schema: dict[str, Any], where: str) -> list[str]:
    from prefect.utilities.schema_tools import validate

    known = schema["properties"]
    wrong = [
        f"{where}: the flow has no parameter {name}; it has {', '.join(known)}"
        for name in given.keys() - known.keys()
    ]
    plain = {
        name: value
        for name, value in given.items()
        if name in known and _TEMPLATE not in str(value)
    }
    for fault in validate(plain, schema, ignore_required=True, allow_none_with_default=True):
        while fault.context:  # Of the forms that a value may have, the one that fits furthest.
            fault = max(fault.context, key=lambda each: len(each.absolute_path))
        wrong.append(f"{where}: {_dotted(fault.absolute_path)}: {fault.message}")
    if wrong or "recipe" not in plain:
        return wrong
    try:
        load_recipe(Path(plain["recipe"]), plain.get("overrides") or ())
    except RetuneError as error:
        return [f"{where}: {error.message}"]
    return []


def _dotted(keys: Any) -> str:
    return ".".join(map(str, keys))
