"""`retune verify`: what it prints of a store, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retune.cli.stores.verifying import verify_store
from retune.errors import ArtifactError, ConfigError
from retune.spine.stage import run_stage
from tests.retune.tiny_stages import request, tiny


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with two artifacts, of which one is damaged."""
    whole, damaged = (request(tmp_path / "store", number=number) for number in (1, 2))
    run_stage(tiny, whole)
    (run_stage(tiny, damaged).folder / "sub" / "number.json").write_text("3")
    return tmp_path / "store"


def test_damage_is_counted_named_and_an_error(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The JSON object on standard output says which, and with which command it heals."""
    with pytest.raises(ArtifactError, match="1 of 2 artifacts damaged") as caught:
        verify_store(None, store, [], stage=None, as_json=True)
    assert caught.value.exit_code == 4
    printed = capsys.readouterr()
    key = request(store, number=2).key
    found = json.loads(printed.out)["stages"]["tiny"]
    assert found["artifacts"] == 2
    assert found["damaged"] == [
        {
            "key": key,
            "damage": "artifact damaged: sub/number.json changed",
            "healed_by": "retune run RECIPE",
            "request": str(store / "requests" / "tiny" / f"{key}.json"),
            "linked": [],
        }
    ]
    assert f"python -m retune.stage tiny {store}/requests/tiny/{key}.json" in printed.err


def test_a_whole_store_is_no_error(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once the damaged artifact is computed again."""
    run_stage(tiny, request(store, number=2))
    verify_store(None, store, [], stage="tiny", as_json=False)
    assert "tiny" in capsys.readouterr().out


def test_the_recipe_names_the_store_and_the_healing(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An override is part of the command that heals: it may be what names the store."""
    recipe = Path(__file__).parents[4] / "conf" / "recipes" / "text_to_sql_demo.yaml"
    with pytest.raises(ArtifactError) as caught:
        verify_store(recipe, Path("elsewhere"), [f"store.folder={store}"], stage=None, as_json=True)
    healing = f"retune run {recipe} --set store.folder={store}"
    assert f"`{healing}`" in caught.value.message
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert stages["tiny"]["damaged"][0]["healed_by"] == healing


def test_what_is_not_there_is_named(store: Path) -> None:
    """A stage that was mistyped, a store that is somewhere else: nothing was verified."""
    with pytest.raises(ConfigError, match=r"--stage train: .* it has tiny\."):
        verify_store(None, store, [], stage="train", as_json=False)
    with pytest.raises(ConfigError, match="there is no store"):
        verify_store(None, store.with_name("none"), [], stage=None, as_json=False)
