"""A file of automations: Prefect's own form, with names where it wants the ids of a server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from uuid import UUID

import yaml

from retune.errors import ConfigError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

_NO_ID = UUID(int=0)
_BLOCK, _DEPLOYMENT = "block_document_id", "deployment_id"
Resolve = Callable[[str], UUID | None]
"""From a name to an id; None where what it names is not configured."""


def read_automations(path: Path, deployments: Iterable[str]) -> list[dict[str, Any]]:
    """Read a file of automations.

    Args:
        path: The file; one that is not there holds none.
        deployments: Names of the deployments that there are going to be.

    Returns:
        Its entries.

    Raises:
        ConfigError: Something in it is wrong; the message lists all of it.
    """
    if not path.is_file():
        return []
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no automations can be read there ({error})") from error
    entries = document.get("automations") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: found no list `automations`")
    known = set(deployments)
    faults = [
        f"{path}: automations[{number}]: {fault}"
        for number, entry in enumerate(entries, 1)
        for fault in _judge(entry, known)
    ]
    names = [entry.get("name") for entry in entries if isinstance(entry, dict)]
    faults += [f"{path}: two automations are called {n}" for n in set(names) if names.count(n) > 1]
    if faults:
        raise ConfigError("\n".join(faults))
    return entries


def apply_automations(
    client: SyncPrefectClient, entries: list[dict[str, Any]], deployments: dict[str, UUID]
) -> list[str]:
    """Make the automations of a server those of a file; others are left alone.

    Args:
        client: Of the server.
        entries: From `read_automations`.
        deployments: Ids of the server's deployments by name.

    Returns:
        Variables with addresses that are not set, so that nothing is sent.
    """
    unset: list[str] = []

    def find_block(variable: str) -> UUID | None:
        address = os.environ.get(variable)
        if not address:
            unset.append(variable)
            return None
        return save_webhook(variable, address)

    for entry in entries:
        wanted = _resolved(entry, find_block, deployments.__getitem__)
        there = client.read_automations_by_name(wanted.name)
        if not there:
            client.create_automation(wanted)
            continue
        # Whether it is on is for the person who looks at it.
        client.update_automation(
            there[0].id, wanted.model_copy(update={"enabled": there[0].enabled})
        )
        for copy in there[1:]:
            client.delete_automation(copy.id)
    return sorted(set(unset))


def save_webhook(variable: str, address: str) -> UUID:
    """Keep an address in a block, encrypted by the server.

    Args:
        variable: Where it was found, which names the block.
        address: Whom notices are sent to.

    Returns:
        The block's id.

    Raises:
        ConfigError: It is no address of a web server.
    """
    from prefect.blocks.webhook import Webhook

    if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
        raise ConfigError(
            f"{variable}: what it holds is no address (not shown here: it may be a secret); "
            "expected one that begins with https://. Correct it or unset it."
        )
    block = Webhook.model_validate(
        {"url": address, "headers": {"Content-Type": "application/json"}}
    )
    # A promise of an id only where an event loop runs.
    return cast(UUID, block.save(variable.lower().replace("_", "-"), overwrite=True))


def _judge(entry: Any, deployments: set[str]) -> list[str]:
    if not isinstance(entry, dict):
        return [f"found {entry!r}; expected name, trigger and actions"]
    missing = []

    def find_deployment(name: str) -> UUID:
        if name not in deployments:
            told = ", ".join(sorted(deployments))
            missing.append(f"({entry.get('name')}): there is no deployment {name}; found {told}")
        return _NO_ID

    try:
        _resolved(entry, lambda _: _NO_ID, find_deployment)
    except (AttributeError, TypeError, ValueError) as error:  # a shape, and pydantic's own
        return [f"({entry.get('name')}): {error}"]
    return missing


def _resolved(
    entry: dict[str, Any], find_block: Resolve, find_deployment: Resolve
) -> AutomationCore:
    from prefect.events.schemas.automations import AutomationCore

    actions = []
    for action in entry.get("actions") or []:
        found = dict(action)
        for key, find in ((_BLOCK, find_block), (_DEPLOYMENT, find_deployment)):
            if key in found:
                found[key] = find(str(found[key]))
        actions.append(found if None not in found.values() else {"type": "do-nothing"})
    return AutomationCore.model_validate({**entry, "actions": actions})
