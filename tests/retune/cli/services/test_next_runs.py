"""When Prefect starts the flow on a recipe next, by what its API answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from retune.cli.services import next_runs
from retune.recipe.loading import LoadedRecipe


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedRecipe:
    """A recipe below its project's root; nothing but its path counts."""
    path = tmp_path / "conf" / "small.yaml"
    return LoadedRecipe(recipe=None, path=path, root=tmp_path)  # type: ignore[arg-type]


def answer(monkeypatch: pytest.MonkeyPatch, deployed: str, runs: list[Any]) -> list[Any]:
    """Let the API have one deployment of the flow; returns what it is asked."""
    asked: list[Any] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        deployment = {"id": "d", "parameters": {"recipe": deployed}}
        path = request.url.path
        return httpx.Response(200, json=[deployment] if "deployments" in path else runs)

    transport = httpx.MockTransport(reply)
    monkeypatch.setattr(next_runs, "api_client", lambda: httpx.Client(transport=transport))
    return asked


def ask(loaded: LoadedRecipe) -> tuple[datetime | None, str]:
    with temporary_settings({PREFECT_API_URL: "http://prefect/api"}):
        return next_runs.find_next_run(loaded)


@pytest.mark.parametrize("deployed", ["conf/small.yaml", "small"])
def test_the_next_start_is_the_first_that_is_scheduled(
    monkeypatch: pytest.MonkeyPatch, loaded: LoadedRecipe, deployed: str
) -> None:
    """The deployment names the recipe by its path from the root, or by its name."""
    due = {"expected_start_time": "2026-11-27T03:00:00Z", "name": "sparrow"}
    asked = answer(monkeypatch, deployed, [due])
    assert ask(loaded) == (datetime(2026, 11, 27, 3, tzinfo=UTC), "flow run sparrow")
    assert asked[1]["deployments"] == {"id": {"any_": ["d"]}}


def test_it_is_said_why_nothing_is_due(
    monkeypatch: pytest.MonkeyPatch, loaded: LoadedRecipe
) -> None:
    """Another recipe's deployment, a schedule that is off, no server, a server that is away."""
    answer(monkeypatch, "other", [])
    assert ask(loaded) == (None, "no deployment of the flow retrain names small.yaml")
    answer(monkeypatch, "small", [])
    assert ask(loaded)[0] is None and "schedule is off" in ask(loaded)[1]

    def fail() -> httpx.Client:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(next_runs, "api_client", fail)
    assert ask(loaded)[0] is None and "does not answer (ConnectError)" in ask(loaded)[1]
    with temporary_settings({PREFECT_API_URL: None}):
        assert "PREFECT_API_URL names no server" in next_runs.find_next_run(loaded)[1]
