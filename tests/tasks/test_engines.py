"""Models that an engine elsewhere answers for: proved where that is possible, and told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from retune.cli.runs.evaluating import read_engine
from retune.errors import ConfigError, ServiceError
from retune.resolving import EvaluatedModel, resolve_model
from retune.serving.messages import RemoteSettings
from tasks.engines import move_to_engine
from tests.retune.registry.test_registering import write_model
from tests.retune.serving.engine_stand_in import standing_in
from tests.tasks.conftest import MakeRun, Told
from tests.waiting import closed_port


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "mine", 1)


@pytest.fixture
def model(folder: Path) -> EvaluatedModel:
    return resolve_model(str(folder), None, "")


def test_a_model_of_a_folder_is_asked_under_its_name_and_nothing_proves_it(
    make_run: MakeRun, told: Told, folder: Path, model: EvaluatedModel
) -> None:
    """It is another column, whose figures are the engine's own."""
    with standing_in() as engine:
        engine.model, engine.version = "mine", "0.11.0"
        remote = RemoteSettings(address=engine.address, seconds=60)
        [found] = move_to_engine(make_run(), [str(folder)], [model], remote)

    assert found.name == "mine at engine" and found.tokenizer == model.tokenizer
    assert found.scored.engine is not None and found.scored.digest != model.scored.digest
    assert (found.scored.engine.model, found.scored.engine.software) == ("mine", "0.11.0")
    assert told.notes[-1].startswith("mine: nothing proves that the engine's mine is this model")


def test_an_engine_that_is_not_there_is_an_error_with_what_to_do(
    make_run: MakeRun, folder: Path, model: EvaluatedModel
) -> None:
    with closed_port() as port, pytest.raises(ServiceError, match="--print-vllm") as caught:
        remote = RemoteSettings(address=f"http://127.0.0.1:{port}/v1", seconds=60)
        move_to_engine(make_run(), [str(folder)], [model], remote)
    assert f"--engine http://127.0.0.1:{port}/v1: the engine cannot be reached" in str(caught.value)


def test_a_model_that_changed_since_it_was_found_is_refused(
    make_run: MakeRun, folder: Path, model: EvaluatedModel
) -> None:
    """The alias may move: one version's rows would be scored by another's answers."""
    other = replace(model, scored=model.scored.model_copy(update={"digest": "another"}))
    remote = RemoteSettings(address="http://127.0.0.1:9/v1", seconds=60)
    with pytest.raises(ServiceError, match=r"mine: .* another model a moment ago"):
        move_to_engine(make_run(), [str(folder)], [other], remote)


def test_one_name_cannot_stand_for_two_models(make_run: MakeRun, model: EvaluatedModel) -> None:
    """The engine would answer for both."""
    remote = RemoteSettings(address="http://127.0.0.1:9/v1", model="x", seconds=60)
    with pytest.raises(ConfigError, match="names one model of the engine, and 2 are"):
        move_to_engine(make_run(), ["a", "b"], [model, model], remote)


def test_an_address_is_read_as_people_write_it() -> None:
    """With or without the version of the API behind it."""
    for text in ("http://host:8001", "http://host:8001/v1/"):
        found = read_engine(text, "m", also_here=True)
        assert found is not None and (found.address, found.model) == ("http://host:8001/v1", "m")
    assert read_engine(None, None, also_here=False) is None


@pytest.mark.parametrize(
    ("address", "model", "also_here", "told"),
    [
        (None, None, True, "--also-here is about an engine"),
        (None, "m", False, "--engine-model is about an engine"),
        ("nonsense", None, False, "expected the address of a server"),
        ("http://me:hunter2@host", None, False, "RETUNE_ENGINE_KEY"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    address: str | None, model: str | None, also_here: bool, told: str
) -> None:
    """Without a password of the address."""
    with pytest.raises(ConfigError, match=told) as caught:
        read_engine(address, model, also_here=also_here)
    assert "hunter2" not in str(caught.value)
