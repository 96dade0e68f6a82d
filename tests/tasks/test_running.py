"""Opening a run of a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from retune.errors import ServiceError
from retune.recipe.loading import load_recipe
from retune.tracking import connect
from tasks.running import open_recipe, prepare_run
from tests.tasks.conftest import Told, write_recipe


@pytest.mark.usefixtures("tracking", "told")
def test_mlflow_shows_the_recipe_from_the_start(tmp_path: Path) -> None:
    """Its settings, overrides included, and its file's name."""
    with open_recipe(write_recipe(tmp_path), ["seed=7"]) as run:
        found = connect(run.context["tracking_uri"]).get_run(run.parent_run)
    assert found.info.run_name == "small" and found.data.params["seed"] == "7"
    assert found.data.tags["retune.recipe"] == "recipe.yaml"
    assert run.process is not None and not run.direct


@pytest.mark.usefixtures("told")
def test_an_evaluation_needs_no_mlflow(tmp_path: Path) -> None:
    """A server that is away stops a run that it shows, and no other."""
    away = ["tracking.uri=http://127.0.0.1:9"]
    recipe = write_recipe(tmp_path)
    with pytest.raises(ServiceError), open_recipe(recipe, away):
        pass
    with open_recipe(recipe, away, tracked=False) as run:
        assert run.mirror is None and run.parent_run == ""


def test_notes_are_told_once_and_what_is_direct_has_no_process(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at the data loads torch right here."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    run = prepare_run(load_recipe(write_recipe(tmp_path), ()), direct=True)
    assert run.process is None and run.direct
    assert run.context["experiment"] == "other"
    assert len([note for note in told.notes if "other" in note]) == 1
