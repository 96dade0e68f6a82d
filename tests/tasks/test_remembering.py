"""What an earlier version had held out is asked for, and what becomes of a run that cannot ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from retune.errors import ServiceError
from retune.tracking import Mirror, connect
from tasks.remembering import find_earlier_rows, keep_rows
from tasks.runs.run import RecipeRun
from tasks.runs.stage_task import is_pending
from tests.tasks.conftest import PENDING, MakeRun, Told
from tests.waiting import free_port


def away(run: RecipeRun, **changes: Any) -> RecipeRun:
    """Return the run with an MLflow where nothing answers."""
    uri = f"http://127.0.0.1:{free_port()}"
    return replace(run, context={**run.context, "tracking_uri": uri}, **changes)


def test_without_a_database_there_is_no_champion(make_run: MakeRun, tmp_path: Path) -> None:
    """Nothing is remembered, nothing is told, and no database is made for the question."""
    run = make_run()
    assert find_earlier_rows(run) is None
    assert cast(Told, run.watcher).notes == []
    assert not (tmp_path / ".retune" / "mlflow").exists()


def test_a_champion_without_a_manifest_is_told(make_run: MakeRun, tracking: None) -> None:
    """What it had held out may be learned: whoever reads the run has to know."""
    run = make_run()
    name, client = run.recipe.registry.model_name, connect(run.context["tracking_uri"])
    client.create_registered_model(name)
    client.create_model_version(name, "somewhere")
    client.set_registered_model_alias(name, "champion", "1")

    assert find_earlier_rows(run) is None
    (note,) = cast(Told, run.watcher).notes
    assert note.startswith(f"{name} version 1, the champion, has no manifest")


def test_a_run_that_may_promote_stops_where_mlflow_is_away(make_run: MakeRun) -> None:
    """It could learn what was held out; a look at the rows goes on and says so."""
    mirror = Mirror("sqlite://", "e", artifact_root="", store_root=Path())
    with pytest.raises(ServiceError, match="cannot be used"):
        find_earlier_rows(away(make_run(), mirror=mirror))
    for looked in (away(make_run()), away(make_run(), mirror=mirror, direct=True)):
        assert find_earlier_rows(looked) is None
        (note,) = cast(Told, looked.watcher).notes
        assert note.startswith("rows that were held out earlier are not known: MLflow at")
        cast(Told, looked.watcher).notes.clear()


def test_rows_that_a_plan_does_not_know_yet_stay_unknown(make_run: MakeRun, tmp_path: Path) -> None:
    """What they have to keep is not known either; without an earlier version it is nothing."""
    assert is_pending(keep_rows(make_run(), PENDING, tmp_path / "rows.parquet"))
    assert keep_rows(make_run(), PENDING, None) is None
