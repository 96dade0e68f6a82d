"""`retune evaluate --engine`: what another server answers is scored, once it is proved to be it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from retune.inference.generation import write_answers
from retune.inference.loaded_models import load_scored_model
from retune.model_records import ScoredModel
from tests.flows.conftest import TEST_ROWS, last_json, retune
from tests.retune.serving.engine_stand_in import StandInEngine, standing_in
from tests.waiting import closed_port

pytestmark = pytest.mark.slow

Finished = tuple[Path, dict[str, Any]]
MOST = 8
"""Tokens of an answer in the project's recipe."""


class Served:
    """The released model of a run, asked as an engine asks it: ids in, ids out."""

    def __init__(self, folder: Path) -> None:
        weights = ScoredModel(digest="d", weights=folder, tokenizer=folder)
        self._loaded, self._lock = load_scored_model(weights), threading.Lock()
        [self.end] = self._loaded.end_ids

    def __call__(self, prompt: Sequence[int]) -> list[int]:
        with self._lock:
            [answer] = write_answers(self._loaded, [prompt], max_new_tokens=MOST, batch_size=1)
        return [*answer.ids, self.end] if answer.finished else list(answer.ids)


@pytest.fixture
def engine(project: Path) -> Iterator[StandInEngine]:
    """An engine that has the project's version 1 under the name that it has by default."""
    [released] = (project.parent / ".retune" / "merge_adapter").glob("*/model.safetensors")
    with standing_in() as made:
        made.rule = Served(released.parent)
        made.model, made.end, made.context = "small-1", made.rule.end, None
        made.version = "0.11.0"
        yield made


def evaluate(project: Path, engine: StandInEngine, *arguments: str) -> Any:
    address = engine.address.removesuffix("/v1")
    return retune(project, *arguments, "--engine", address, command="evaluate")


def test_an_engine_with_the_version_has_the_figures_of_this_machine(
    finished: Finished, project: Path, engine: StandInEngine
) -> None:
    """Row by row; none tells likelihoods, and the second time only the proof is asked for."""
    done = evaluate(project, engine, "models:/small/1", "--also-here", "--json")
    found = last_json(done)

    here, there = found["models"]
    assert (here["name"], there["name"]) == ("models:/small/1", "models:/small/1 at engine")
    assert there["place"].endswith(f"asked as small-1 at {engine.address}")
    assert "perplexity" in here["metrics"] and "perplexity" not in there["metrics"]
    for name in ("sql_execution_match", "sql_exact_match", "probe_pass_rate"):
        assert there["metrics"][name] == here["metrics"][name], name
    rows = [json.loads(line) for line in _answers(found, there)]
    assert rows == [json.loads(line) for line in _answers(found, here)] and len(rows) == TEST_ROWS
    assert "(small-1, version 0.11.0)" in found["notes"][-1]
    told = " ".join(done.stderr.split())
    assert "the engine answers 2 stored prompts of it as registered" in told
    assert all(isinstance(each, int) for body in engine.asked for each in body["prompt"])

    asked = len(engine.asked)
    again = evaluate(project, engine, "models:/small/1", "--also-here", "--json")
    assert last_json(again)["comparisons"] == found["comparisons"]
    # A token of the trial, and the two stored prompts.
    assert len(engine.asked) == asked + 3


def _answers(found: dict[str, Any], model: dict[str, Any]) -> list[str]:
    path = Path(found["folder"]) / model["files"]["sql/rows.jsonl"]
    return path.read_text("utf-8").splitlines()


def test_an_engine_with_other_weights_is_refused_before_anything_is_scored(
    finished: Finished, project: Path, engine: StandInEngine
) -> None:
    """Its name says that it is the version; its answers do not."""
    engine.rule = lambda prompt: [*reversed(prompt[-4:]), engine.end]
    done = evaluate(project, engine, "models:/small/1")

    assert done.returncode == 7, done.stderr
    told = " ".join(done.stderr.split())
    assert "stored prompt 1 of 2 is answered otherwise than when the version was registered" in told
    assert "score_sql" not in done.stderr and len(engine.asked) == 3


def test_a_folder_is_scored_as_the_engine_answers_and_told_to_be_unproved(
    finished: Finished, project: Path, engine: StandInEngine
) -> None:
    """The engine writes nothing for each row, so that no query is right."""
    engine.rule = lambda _: [engine.end]
    done = evaluate(project, engine, "base", "--engine-model", "small-1", "--json")
    [found] = last_json(done)["models"]

    assert found["metrics"]["sql_execution_match"]["value"] == 0.0
    assert "nothing proves that the engine's small-1 is this model" in " ".join(done.stderr.split())
    assert "perplexity" not in found["metrics"]


def test_an_engine_that_is_not_there_ends_the_command_before_a_stage(project: Path) -> None:
    """Exit code 7, its address, and what to do."""
    with closed_port() as port:
        address = f"http://127.0.0.1:{port}"
        done = retune(project, "base", "--engine", address, command="evaluate")
    assert done.returncode == 7, done.stderr
    told = " ".join(done.stderr.split())
    assert f"--engine {address}/v1: the engine cannot be reached" in told
    assert "--print-vllm" in told and "score_sql" not in told
