"""An engine elsewhere writes the answers that are scored: each prompt's own, or a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from retune.errors import Interrupted, ScoringError, ServiceError
from retune.inference.elsewhere import ask_engine
from retune.inference.generation import ENGINE_FAILED, PROMPT_TOO_LONG, write_answers
from retune.inference.latency import write_latency
from retune.inference.loaded_models import LoadedModel, ModelSlot
from retune.model_records import EngineRef, ScoredModel
from retune.spine.stopping import STOP
from tests.retune.registry.test_registering import write_model
from tests.retune.serving.engine_stand_in import StandInEngine, standing_in
from tests.waiting import wait_until

MOST = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a snapshot without its weights: nothing here may want to load them."""
    made = write_model(tmp_path_factory.mktemp("model") / "m", 1)
    (made / "model.safetensors").unlink()
    return made


@pytest.fixture
def engine() -> Iterator[StandInEngine]:
    with standing_in() as made:
        yield made


@pytest.fixture
def slot() -> Iterator[ModelSlot]:
    made = ModelSlot()
    yield made
    made.clear()


def plain(folder: Path) -> ScoredModel:
    return ScoredModel(digest="d", weights=folder, tokenizer=folder)


@pytest.fixture
def loaded(folder: Path, engine: StandInEngine, slot: ModelSlot) -> LoadedModel:
    return slot.get(plain(folder).asked_at(EngineRef(address=engine.address, model="m")))


def ids(text: str) -> list[int]:
    """Return the ids of ASCII letters: the tokenizer numbers them from the exclamation mark on."""
    return [ord(each) - ord("!") for each in text]


def texts(loaded: LoadedModel, *prompts: str) -> list[str | None]:
    asked = [ids(each) for each in prompts]
    found = write_answers(loaded, asked, max_new_tokens=MOST, batch_size=2)
    return [each.text for each in found]


def test_each_prompt_gets_its_own_answer_in_the_order_of_prompts(loaded: LoadedModel) -> None:
    """By the stand-in's rule: the prompt backwards, cut off where the limit comes first."""
    found = write_answers(
        loaded, [ids("ab"), ids("abcdefgh"), ids("c")], max_new_tokens=MOST, batch_size=2
    )

    assert [each.text for each in found] == ["ba", "hgfedc", "c"]
    assert [each.finished for each in found] == [True, False, True]
    assert [each.tokens for each in found] == [2, 6, 1]
    # Shares by tokens and one more each (the end token among what was written): 4, 7 and 3 of 14.
    whole = sum(each.seconds for each in found)
    assert [each.seconds / whole for each in found] == pytest.approx([4 / 14, 7 / 14, 3 / 14])


def test_what_is_asked_are_the_very_ids_greedily(
    loaded: LoadedModel, engine: StandInEngine
) -> None:
    texts(loaded, "xyz")

    [body] = engine.asked
    assert body["prompt"] == ids("xyz") and body["max_tokens"] == MOST
    assert body["temperature"] == 0.0 and body["ignore_eos"] is True
    assert body["stop_token_ids"] == loaded.end_ids


def test_a_prompt_over_the_engines_context_is_told_and_not_asked(
    folder: Path, engine: StandInEngine, slot: ModelSlot
) -> None:
    """The engine reads 10 tokens: of its own, smaller than the model's 256."""
    engine.context = 10
    loaded = slot.get(plain(folder).asked_at(EngineRef(address=engine.address, model="m")))
    found = write_answers(loaded, [ids("abcd"), ids("abcde")], max_new_tokens=MOST, batch_size=2)

    assert [each.text for each in found] == ["dcba", None]
    assert found[1].unscored_reason == PROMPT_TOO_LONG
    assert len(engine.asked) == 1


def test_an_answer_that_fails_is_asked_for_again(
    loaded: LoadedModel, engine: StandInEngine
) -> None:
    engine.breaks = {tuple(ids("ab")): 2}

    assert texts(loaded, "ab", "cd") == ["ba", "dc"]
    assert [each["prompt"] for each in engine.asked].count(ids("ab")) == 3


def test_a_prompt_that_fails_for_good_has_a_reason_and_the_others_answers(
    loaded: LoadedModel, engine: StandInEngine
) -> None:
    """One of ten may fail; its row is unscored."""
    engine.breaks = {tuple(ids("ab")): 99}
    prompts = ["ab", *"cdefghijk"]
    found = write_answers(loaded, [ids(each) for each in prompts], max_new_tokens=2, batch_size=2)

    assert (found[0].text, found[0].unscored_reason) == (None, ENGINE_FAILED)
    assert [each.text for each in found[1:]] == list("cdefghijk")


def test_an_engine_that_fails_on_more_than_a_tenth_ends_the_scoring(
    loaded: LoadedModel, engine: StandInEngine
) -> None:
    engine.breaks = {tuple(ids("ab")): 99, tuple(ids("cd")): 99}

    with pytest.raises(ScoringError, match=r"fails on 2 of 3 prompts.*the kernel broke"):
        texts(loaded, "ab", "cd", "ef")


def test_an_engine_that_is_gone_is_an_error_that_names_it(
    loaded: LoadedModel, engine: StandInEngine
) -> None:
    engine.fault = "gone"
    with pytest.raises(ServiceError, match=r"--engine http://127\.0\.0\.1.*run again") as caught:
        texts(loaded, "ab")
    assert engine.address in str(caught.value)


def test_an_engine_without_the_model_says_what_it_has(
    folder: Path, engine: StandInEngine, slot: ModelSlot
) -> None:
    with pytest.raises(ServiceError, match=r"no model of the name 'other'.*\['m'\]"):
        slot.get(plain(folder).asked_at(EngineRef(address=engine.address, model="other")))


def test_a_stop_ends_the_asking_and_breaks_off_what_is_being_written(
    loaded: LoadedModel, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.fault = "endless"
    monkeypatch.setattr(STOP, "requested", True)
    assert loaded.engine is not None

    with pytest.raises(Interrupted):
        ask_engine(loaded.engine, [ids("ab")], loaded.end_ids, max_new_tokens=10**6)
    wait_until(lambda: engine.broken_off == 1 or not engine.asked, what="a broken off answer")


def test_progress_counts_answers_that_have_ended(loaded: LoadedModel) -> None:
    told: list[tuple[int, int]] = []
    write_answers(
        loaded,
        [ids("ab"), ids("cd")],
        max_new_tokens=MOST,
        batch_size=2,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 2), (2, 2)]


def test_a_model_says_other_things_at_an_engine_and_the_same_wherever_that_is() -> None:
    """Its digest is its own: stages computed here are not taken for the engine's."""
    here = plain(Path("m"))
    there = [
        here.asked_at(EngineRef(address=address, model="m", software=software)).digest
        for address, software in (("http://a/v1", "1"), ("http://b/v1", "1"), ("http://a/v1", "2"))
    ]
    assert here.digest not in there
    assert there[0] == there[1] != there[2]


def test_how_long_answers_took_says_where_they_were_written(
    loaded: LoadedModel, engine: StandInEngine, tmp_path: Path
) -> None:
    answers = write_answers(loaded, [ids("ab")], max_new_tokens=MOST, batch_size=2)
    write_latency(tmp_path / "latency.json", loaded, {"r": answers[0]}, batch_size=2)

    found = json.loads((tmp_path / "latency.json").read_text("utf-8"))
    assert found["measured"]["device"] == f"engine: {engine.address}"
    assert found["rows"]["r"]["tokens"] == 2


def test_an_engine_that_is_back_is_connected_to_anew(folder: Path, slot: ModelSlot) -> None:
    """The stage that failed is tried again, in the same process."""
    with standing_in() as first:
        scored = plain(folder).asked_at(EngineRef(address=first.address, model="m"))
        first.fault = "gone"
        with pytest.raises(ServiceError):
            texts(slot.get(scored), "ab")
        port = first.port
    with standing_in(port):
        assert texts(slot.get(scored), "ab") == ["ba"]


def test_clearing_the_slot_closes_the_connection(folder: Path, engine: StandInEngine) -> None:
    slot = ModelSlot()
    loaded = slot.get(plain(folder).asked_at(EngineRef(address=engine.address, model="m")))
    assert loaded.engine is not None and loaded.engine.alive
    slot.clear()
    assert not loaded.engine.alive
