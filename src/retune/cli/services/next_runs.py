"""When Prefect starts the flow `retrain` on a recipe next, asked of its API."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from retune.cli.services.prefect_api import api_client
from retune.cli.services.prefect_settings import read_prefect_settings
from retune.recipe.credentials import masked
from retune.recipe.loading import LoadedRecipe

_FLOW = "retrain"


def find_next_run(loaded: LoadedRecipe) -> tuple[datetime | None, str]:
    """Ask Prefect's API for the next scheduled start of the flow on a recipe.

    Args:
        loaded: The recipe.

    Returns:
        When, and the deployment; None, and why there is none. A server that is away is such a
        reason: nothing of the rest depends on it.

    Raises:
        ConfigError: Prefect's settings are wrong.
    """
    read_prefect_settings()
    from prefect.settings import PREFECT_API_URL

    address = PREFECT_API_URL.value()
    if not address:
        return None, (
            "not known: PREFECT_API_URL names no server (`retune up` has it at "
            "http://127.0.0.1:4200/api)"
        )
    try:
        with api_client() as client:
            runs = _ask_runs(client, address.rstrip("/"), loaded)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return None, f"Prefect at {masked(address)} does not answer ({type(error).__name__})"
    if runs is None:
        return None, f"no deployment of the flow {_FLOW} names {loaded.path.name}"
    if not runs:
        return None, "no start is scheduled: the deployment's schedule is off, or has none"
    return datetime.fromisoformat(runs[0]["expected_start_time"]), f"flow run {runs[0]['name']}"


def _ask_runs(
    client: httpx.Client, address: str, loaded: LoadedRecipe
) -> list[dict[str, Any]] | None:
    flows = {"flows": {"name": {"any_": [_FLOW]}}}
    deployments = _post(client, f"{address}/deployments/filter", flows)
    wanted = [each["id"] for each in deployments if names_recipe(each["parameters"], loaded)]
    if not wanted:
        return None
    asked = {
        "deployments": {"id": {"any_": wanted}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "sort": "EXPECTED_START_TIME_ASC",
        "limit": 1,
    }
    return _post(client, f"{address}/flow_runs/filter", asked)


def _post(client: httpx.Client, address: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.post(address, json=asked).raise_for_status().json()
    return found


def names_recipe(parameters: dict[str, Any], loaded: LoadedRecipe) -> bool:
    """Say whether a deployment's parameters name a recipe: by its file, or by its file's name.

    Args:
        parameters: The deployment's.
        loaded: The recipe.
    """
    named = parameters.get("recipe")
    if not isinstance(named, str):
        return False
    return named == loaded.path.stem or (loaded.root / Path(named)).resolve() == (
        loaded.path.resolve()
    )
