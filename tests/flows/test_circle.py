"""The whole circle: what a served model is asked and told makes the next one, which is then served.

Production asks in words that no training row has, about a table that the champion does not know.
The server keeps what it is asked, and people correct a quarter of the answers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.flows.conftest import last_json, retune
from tests.flows.test_year import read_rows, write_rows
from tests.retune.serving.conftest import Served
from tests.retune.serving.conftest import serve as serve
from tests.serving import copy_tracking_database
from tests.tiny_models import REPOSITORY
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.service]

NAME = "circle"
TRAIN_ROWS, CORRECTED_OF = 120, 4
ASKS = (
    "Quanto rendeu",
    "Diga o rendimento que teve",
    "Favor informar quanto pagou",
    "Informe o juro de",
)
TOWNS = (
    "Faro",
    "Braga",
    "Évora",
    "Lisboa",
    "Natal",
    "Recife",
    "Olinda",
    "Belém",
    "Santos",
    "Porto",
)
DAYS = (
    "na véspera",
    "durante o leilão",
    "no fechamento do pregão",
    "após a moratória",
    "em agosto",
)
QUESTIONS = [f"{ask} a agência de {town} {day}?" for ask, town, day in product(ASKS, TOWNS, DAYS)]
ANSWER = "SELECT rendimento FROM pregoes"


def write_circle(folder: Path) -> Path:
    """Write a project on the embedded base, trained on questions about quite other tables."""
    (folder / "data").mkdir(parents=True)
    (folder / "served").mkdir()
    (folder / "pyproject.toml").touch()
    shutil.copytree(REPOSITORY / "assets" / "base_tiny", folder / "base")
    rows = [{**row, "id": None} for row in read_rows("train.jsonl")[:TRAIN_ROWS]]
    write_rows(folder / "data" / "train.jsonl", rows)
    recipe: dict[str, Any] = {
        "name": NAME,
        "data": {"train": [{"path": "data/train.jsonl"}]},
        "split": {"validation_fraction": 0.1, "test_fraction": 0.4},
        # Questions of production are alike: what a held-out one repeats is not learned.
        "quality": {"drop_leaked": True},
        "model": {"id": "base"},
        "quantization": {"kind": "none"},
        "training": {"epochs": 5.0, "evaluations": 1, "learning_rate": 3.0e-3},
        "scoring": {"max_new_tokens": 8, "resamples": 1000, "samples": 0},
        "merge": {"check_rows": 2},
        "gate": {"decisions_per_test_set": 1},
        "registry": {"model_name": NAME, "check_rows": 2},
        "retrain": {"triggers": {"new_rows": {"rows": 20}}},
    }
    copy_tracking_database(folder / ".retune")
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    return path


def learn_from_production(path: Path) -> None:
    """Have a recipe read what the server keeps, as docs/serving.md has it."""
    recipe = yaml.safe_load(path.read_text("utf-8"))
    corrections = {"path": "served/corrections.jsonl", "columns": {"group": "group"}}
    recipe["data"]["train"].append(corrections)
    recipe["retrain"]["triggers"]["drift"] = {"log": "served/requests-*.jsonl"}
    path.write_text(yaml.safe_dump(recipe), "utf-8")


def ask_all(served: Served) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(8) as people:
        return list(
            people.map(lambda each: served.post("/generate", prompt=each).json(), QUESTIONS)
        )


def right(answers: list[dict[str, Any]]) -> float:
    """Return the share of questions that were answered right by one version, which is named."""
    assert len({each["version"] for each in answers}) == 1
    return sum(each["text"] == ANSWER for each in answers) / len(answers)


def test_what_production_asks_and_corrects_makes_a_champion_that_answers_it(
    tmp_path: Path, serve: Callable[..., Served]
) -> None:
    """200 questions in new words, 50 corrections: seen as drift and as new rows, learned, swapped.

    The server is not started again in between, and answers the same questions twice.
    """
    recipe = write_circle(tmp_path / "project")
    store, kept = recipe.parent / ".retune", recipe.parent / "served"
    assert last_json(retune(recipe, "--json", command="retrain"))["outcome"] == "promoted"
    served = serve(
        *(f"models:/{NAME}@champion", "--store", str(store), "--log-requests", str(kept)),
        *("--poll", "0.5", "--default-tokens", "16"),
    )
    served.wait_until_ready()

    before = ask_all(served)
    for answer in before[::CORRECTED_OF]:
        judged = served.post("/v1/feedback", id=answer["id"], rating="bad", correction=ANSWER)
        assert judged.status_code == 200
    learn_from_production(recipe)
    [new_rows] = last_json(retune(recipe, "--json", command="status"))["triggers"]
    # New rows are worth it already, and drift would not be asked for.
    only_drift = ("--set", "retrain.triggers.new_rows=null")
    told = last_json(retune(recipe, "--json", *only_drift, command="retrain"))
    wait_until(lambda: served.ready()["version"] == 2, what="the swap", every=0.2)
    after = ask_all(served)

    assert (new_rows["trigger"], new_rows["figures"]["new_rows"]) == ("new_rows", 50)
    [drift] = told["assessment"]["triggers"]
    assert (drift["trigger"], drift["fires"]) == ("drift", True)
    assert (drift["figures"]["requests"], drift["figures"]["bad_lines"]) == (200, 0)
    assert drift["figures"]["tokens"] > drift["figures"]["tokens.chance"]
    assert told["outcome"] == "promoted", told["reason"]
    assert {each["version"] for each in before} == {1}
    assert right(before) == 0
    assert right(after) > 0.5
