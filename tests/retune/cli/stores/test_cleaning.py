"""`retune gc`: which recipes count, what it prints, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from retune.cli.stores.cleaning import CleanOptions, clean_store
from retune.errors import ConfigError
from retune.recipe.loading import load_recipe
from retune.records import Record
from retune.spine.stage import key_parts, run_stage
from retune.spine.store import Manifest
from retune.stages import STAGES
from retune.tracking.unsent import UnsentEntries
from tests.retune.tiny_stages import request, tiny
from tests.tiny_models import REPOSITORY

LOOK, DELETE = CleanOptions(False, 14, False), CleanOptions(True, 14, False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the demo's recipe in conf/recipes, and a store with a lost artifact in it."""
    (tmp_path / "pyproject.toml").touch()
    recipes = tmp_path / "conf" / "recipes"
    recipes.mkdir(parents=True)
    given = yaml.safe_load((REPOSITORY / "conf/recipes/text_to_sql_demo.yaml").read_text("utf-8"))
    given["model"] = {"id": "absent-model"}
    (recipes / "demo.yaml").write_text(yaml.safe_dump(given), "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lost = request(tmp_path / ".retune", number=1)
    folder = run_stage(tiny, lost).folder
    os.utime(folder, (1e9, 1e9))
    return tmp_path


def add_recipe_of_another_store(project: Path) -> None:
    given = yaml.safe_load((project / "conf/recipes/demo.yaml").read_text("utf-8"))
    given["store"]["folder"] = "elsewhere"
    (project / "conf/recipes/two.yaml").write_text(yaml.safe_dump(given), "utf-8")


def test_a_look_changes_nothing_and_deleting_does(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The object on standard output has the same bytes by reason in both."""
    clean_store([], None, [], LOOK, as_json=True)
    looked = capsys.readouterr()
    found = json.loads(looked.out)
    (row,) = (each for each in found["goes"] if each["kind"] == "artifact")
    assert row["stage"] == "tiny"
    assert row["reason"] == "nothing refers to it"
    assert row["bytes"] == row["freed_bytes"] > 0
    assert "--delete removes it" in looked.err
    assert len(list((project / ".retune" / "tiny").iterdir())) == 1
    clean_store([], None, [], DELETE, as_json=True)
    done = json.loads(capsys.readouterr().out)
    assert done["deleted"]
    assert done["goes"] == found["goes"]
    assert not list((project / ".retune" / "tiny").iterdir())
    clean_store([], None, [], LOOK, as_json=False)
    assert "nothing to remove" in capsys.readouterr().out


def test_what_mlflow_has_still_to_get_stays(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An entry that was kept while it was away names the file of an artifact."""
    (artifact,) = (project / ".retune" / "tiny").iterdir()
    entry = {"kind": "artifact", "path": str(artifact / "manifest.json"), "folder": None}
    UnsentEntries(project / ".retune").keep("run", entry)
    clean_store([], None, [], DELETE, as_json=True)
    stays = json.loads(capsys.readouterr().out)["stays"]
    assert "not sent to MLflow yet" in {row["reason"] for row in stays}
    assert artifact.is_dir()


def test_a_recipe_that_cannot_be_planned_keeps_what_it_may_need(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its model is not here: that is told, and no reason to take its stages away.

    One of another version, or of other settings, no run of it would find.
    """
    stage = STAGES["merge_adapter"]
    settings = stage.settings.of(load_recipe(project / "conf/recipes/demo.yaml").recipe)
    parts = key_parts(stage, Record(), settings)
    for key, changed in (("a", {}), ("b", {"version": 0}), ("c", {"merge.check_rows": 99})):
        folder = project / ".retune" / stage.name / (key * 32)
        (project / ".retune" / "known" / stage.name).mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True)
        made = {**parts, "input": "merged", **changed}
        manifest = Manifest(
            stage=stage.name, key=key * 32, key_parts=made, record={}, files={}, provenance={}
        )
        (folder / "manifest.json").write_text(manifest.model_dump_json(), "utf-8")
        os.utime(folder, (1e9, 1e9))
    clean_store([], None, [], DELETE, as_json=True)
    printed = capsys.readouterr()
    assert "cannot be planned" in printed.err
    kept = [row for row in json.loads(printed.out)["stays"] if row["stage"] == stage.name]
    assert [(row["reason"], row["number"]) for row in kept] == [
        ("recipe text_to_sql_demo may need it", 1)
    ]
    assert [path.name for path in (project / ".retune" / stage.name).iterdir()] == ["a" * 32]


def test_without_a_recipe_of_the_store_nothing_is_removed(project: Path) -> None:
    """Everything would be taken for left behind; neither is there a guess among several stores."""
    (project / "other").mkdir()
    with pytest.raises(ConfigError, match=r"no recipe names the store .*other"):
        clean_store([], project / "other", [], DELETE, as_json=False)
    add_recipe_of_another_store(project)
    with pytest.raises(ConfigError, match=r"several stores .*--store FOLDER"):
        clean_store([], None, [], DELETE, as_json=False)
    shutil.rmtree(project / "conf")
    with pytest.raises(ConfigError, match=r"there is no recipe in .*recipes"):
        clean_store([], None, [], DELETE, as_json=False)


def test_a_recipe_of_another_store_is_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It keeps nothing in this one."""
    add_recipe_of_another_store(project)
    clean_store([], Path(".retune"), [], LOOK, as_json=False)
    assert "two.yaml names another store" in " ".join(capsys.readouterr().out.split())


def test_shared_storage_is_refused(project: Path) -> None:
    """Other machines may be about to read what nobody here refers to."""
    shared = ["store.folder=file:///mnt/share", "tracking.uri=http://127.0.0.1:1"]
    with pytest.raises(ConfigError, match="store on shared storage is not cleaned up"):
        clean_store([], None, shared, DELETE, as_json=False)


def test_a_store_that_is_not_there_is_an_error(project: Path) -> None:
    """Its name was mistyped, or no run was made."""
    shutil.rmtree(project / ".retune")
    with pytest.raises(ConfigError, match="there is no store"):
        clean_store([], None, [], LOOK, as_json=False)
