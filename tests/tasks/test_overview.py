"""The page of a registered model reaches MLflow's run and Prefect's flow run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from retune.recipe.loading import load_recipe
from retune.registry.ledger.ledger import LEDGERS, Ledger
from retune.tracking import Mirror, connect
from tasks import overview
from tasks.runs.opening import prepare_run
from tasks.runs.run import RecipeRun
from tests.retune.release.test_overview import HISTORY


@pytest.fixture
def run(tmp_path: Path) -> RecipeRun:
    """A tracked run of a recipe whose model has a history."""
    (tmp_path / "pyproject.toml").touch()
    recipe = {
        "name": "tiny",
        "data": {"train": "train.jsonl"},
        "model": {"id": "model"},
        "registry": {"model_name": "tiny"},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    run = prepare_run(load_recipe(path), direct=True)
    ledger = Ledger(run.context["tracking_uri"], "tiny", run.store.root / LEDGERS)
    for entry in HISTORY:
        ledger.append(entry.model_copy(update={"model_name": "tiny"}))
    mirror = Mirror(
        run.context["tracking_uri"],
        "tiny",
        artifact_root=run.context["artifact_root"],
        store_root=run.store.root,
    )
    return replace(run, mirror=mirror, parent_run=mirror.open_parent("flow", {}))


def test_the_page_is_given_to_both(run: RecipeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow keeps the page itself; Prefect shows each decision, the latest first."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(overview, "create_table_artifact", lambda **fields: given.update(fields))

    overview.report_overview(run)

    client = connect(run.context["tracking_uri"])
    [kept] = client.list_artifacts(run.parent_run, "overview")
    page = run.store.root / "reports" / "overview-tiny" / Path(kept.path).name
    assert page.is_file()
    assert given["key"] == "overview" and str(page) in given["description"]
    assert [row["what"] for row in given["table"]] == [
        "rolled back",
        "rejected",
        "promoted",
        "skipped",
        "promoted",
    ]
    assert given["table"][1]["why"] == "slice group=x is worse"


def test_a_plan_writes_no_page(run: RecipeRun) -> None:
    """Nothing was decided."""
    overview.report_overview(replace(run, planning=True))
    assert not (run.store.root / "reports").exists()


def test_the_page_is_written_for_whoever_asks(run: RecipeRun) -> None:
    """`retune status --html`, without a run in MLflow or Prefect."""
    page = overview.write_page(replace(run, mirror=None))
    assert "slice group=x is worse" in page.read_text("utf-8")
