"""Opening a run of a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from retune.errors import ServiceError
from retune.preflight.devices import TRAINING_CLUSTER
from retune.recipe.loading import load_recipe
from retune.tracking import connect
from tasks.runs.opening import open_recipe, prepare_run
from tests.tasks.conftest import Told, write_recipe
from tests.waiting import closed_port


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


def test_a_cluster_that_is_to_train_has_to_answer(tmp_path: Path, told: Told) -> None:
    """Said before anything is made, where a number of devices is asked for; else it has no part."""
    with closed_port() as port:
        runner = {"kind": "ray", "address": f"127.0.0.1:{port}"}
        recipe = write_recipe(tmp_path, runner=runner, training={"devices": 2, "batch_size": 8})
        with pytest.raises(ServiceError, match="nobody answers"), open_recipe(recipe, ()):
            raise AssertionError
        assert not (tmp_path / ".retune").exists()
        assert TRAINING_CLUSTER in prepare_run(load_recipe(recipe, ())).context
        alone = load_recipe(recipe, ["training.devices=auto"])
        assert TRAINING_CLUSTER not in prepare_run(alone).context
