"""`evaluate.load` of what ships under conf/metrics: in a fresh process, without network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

import pytest

from retune.data.tables import read_rows
from retune.model_records import BaseRef
from retune.recipe.sections.scoring import TextMetricName
from retune.records import ChatRef
from retune.scoring.free_text.score import estimate
from retune.scoring.perplexity import score_perplexity
from retune.scoring.stages import LossSettings, ScoreInputs
from retune.spine.stage import Workdir
from tests.making import settings_of
from tests.retune.scoring.free_text.test_score import judged
from tests.tiny_models import REPOSITORY

pytestmark = pytest.mark.slow

FOLDER = REPOSITORY / "conf" / "metrics"
LOAD = """
import json, socket, sys

def refuse(*_):
    raise OSError("this process has no network")

socket.socket.connect = refuse
import evaluate

for line in sys.stdin:
    found = {}
    for name, given in json.loads(line):
        found |= evaluate.load(f"conf/metrics/{name}").compute(**given)
    print(json.dumps(found), flush=True)
"""


OTHERS = {"macro_f1", "perplexity", "sql_execution_match"}
"""Figures of other scorers that have a module."""

Compute = Callable[[Sequence[tuple[str, Any]]], dict[str, float]]


@pytest.fixture(scope="module")
def compute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    """Load modules in one process where none was loaded before, from the root as the docs do."""
    home = tmp_path_factory.mktemp("huggingface")
    with (home / "said.txt").open("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", LOAD],
            cwd=REPOSITORY,
            env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        asked, answers = process.stdin, process.stdout
        assert asked is not None and answers is not None

        def ask(given: Sequence[tuple[str, Any]]) -> dict[str, float]:
            asked.write(json.dumps(given) + "\n")
            asked.flush()
            answer = answers.readline()
            said.seek(0)
            assert answer, said.read()[-2000:]
            found: dict[str, float] = json.loads(answer)
            return found

        with process:
            yield ask


def test_each_metric_that_ships_has_a_module_and_a_card() -> None:
    """And there is no module of anything else."""
    expected = {*get_args(TextMetricName), *OTHERS}
    assert {path.parent.name for path in FOLDER.glob("*/*.py")} == expected
    assert {path.parent.name for path in FOLDER.glob("*/README.md")} == expected


def test_modules_give_the_figures_of_the_report(compute: Compute) -> None:
    """Of the same answers and references, several for one of them, and no word in one answer."""
    rows = [row for row in judged(references=["o rio", "o gato dorme"]) if row["reason"] is None]
    names = get_args(TextMetricName)
    texts = {
        "predictions": [row["prediction"] for row in rows],
        "references": [row["references"] for row in rows],
    }
    found = compute([(name, texts) for name in names])
    assert found == pytest.approx({name: estimate(name, rows, 100).value for name in names})


def test_classes_that_are_written_have_their_macro_f1(compute: Compute) -> None:
    """The mean of two classes' F1: 2 right of 3, none said in vain; 1 of 2, one said in vain.

    The fourth answer denies one class and names the other; the fifth names none.
    """
    given = {
        "predictions": [
            *("Positivo.", "É positivo", "negativo"),
            *("Não é positivo: é negativo", "não sei"),
        ],
        "references": ["positivo"] * 3 + ["negativo"] * 2,
        "labels": ["negativo", "positivo"],
    }
    expected = (2 * 2 / (2 + 3) + 2 * 1 / (2 + 2)) / 2
    assert compute([("macro_f1", given)])["macro_f1"] == pytest.approx(expected)


def test_queries_match_by_what_they_give(compute: Compute) -> None:
    """Another way to the same row, another row, and no query; of the fourth the reference fails."""
    tables = "CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1), (3);"
    gold = "SELECT max(a) FROM t"
    given = {
        "predictions": [
            "```sql\nSELECT a FROM t ORDER BY a DESC LIMIT 1;\n```",
            "SELECT min(a) FROM t",
            "the largest",
            gold,
        ],
        "references": [gold, gold, gold, "SELECT b FROM t"],
        "databases": [tables] * 4,
    }
    found = compute([("sql_execution_match", given)])
    assert found == {"sql_execution_match": pytest.approx(1 / 3), "sql_execution_match_rows": 3}


def test_perplexity_is_that_of_the_run(
    compute: Compute, base: BaseRef, format_for: Callable[..., ChatRef], work: Workdir
) -> None:
    """Over held-out rows whose question is all that the user says."""
    side = format_for(base, user="{question}").side("test")
    rows = read_rows(side.folder / "rows.parquet")
    settings = settings_of(LossSettings, scoring={"resamples": 200})
    report = score_perplexity(ScoreInputs(model=base.as_scored(), rows=side), settings, work)
    given = {
        "predictions": [row["answer"] for row in rows],
        "prompts": [row["question"] for row in rows],
        "model_id": str(base.folder),
    }
    found = compute([("perplexity", given)])["perplexity"]
    assert found == pytest.approx(report.metrics["perplexity"].value, rel=1e-6)
