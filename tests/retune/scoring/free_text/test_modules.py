"""`evaluate.load` of what ships under conf/metrics: in a fresh process, without network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from retune.recipe.sections.scoring import TextMetricName
from retune.scoring.free_text.score import estimate
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

rows = json.load(sys.stdin)
texts = {"predictions": rows["answers"], "references": rows["references"]}
found = {}
for name in rows["names"]:
    found |= evaluate.load(f"conf/metrics/{name}").compute(**texts)
print(json.dumps(found))
"""


def test_each_metric_that_ships_has_a_module_and_a_card() -> None:
    """And there is no module of anything else."""
    assert {path.parent.name for path in FOLDER.glob("*/*.py")} == set(get_args(TextMetricName))
    assert {path.parent.name for path in FOLDER.glob("*/README.md")} == set(
        get_args(TextMetricName)
    )


def test_modules_give_the_figures_of_the_report(tmp_path: Path) -> None:
    """Of the same answers and references, several for one of them, and no word in one answer."""
    rows = [row for row in judged(references=["o rio", "o gato dorme"]) if row["reason"] is None]
    names = get_args(TextMetricName)
    found = compute(
        tmp_path,
        names=names,
        answers=[row["prediction"] for row in rows],
        references=[row["references"] for row in rows],
    )
    assert found == pytest.approx({name: estimate(name, rows, 100).value for name in names})


def compute(home: Path, **given: Any) -> dict[str, float]:
    """Load the modules where nothing was loaded before, from the project's root as the docs do."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        input=json.dumps(given),
        cwd=REPOSITORY,
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, float] = json.loads(done.stdout)
    return found
