"""Trials side by side as a user asks for them: killed and gone on, failed, stopped, spread."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from tests.flows.conftest import (
    TEST_ROWS,
    copy_project,
    environment,
    last_json,
    retune,
    write_project,
)
from tests.waiting import GUARD_SECONDS

pytestmark = pytest.mark.slow

METHODS = ("--methods", "full,lora,broken")
Compared = tuple[Path, dict[str, Any]]


def compare(recipe: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return retune(recipe, *arguments, command="compare")


def sweep(recipe: Path, *arguments: str, cold: bool = False) -> subprocess.CompletedProcess[str]:
    return retune(recipe, *arguments, command="sweep", cold=cold)


def trials(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the trials' results by name."""
    return {each["result"]["name"]: each["result"] for each in told["trials"]}


def adapters(recipe: Path) -> dict[str, int]:
    """Return the finished trainings and when each was sealed."""
    found = (recipe.parent / ".retune" / "train_adapter").glob("*/manifest.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


def add_variants(recipe: Path, variants: dict[str, dict[str, Any]]) -> None:
    """Write variants into a recipe."""
    body = yaml.safe_load(recipe.read_text("utf-8"))
    recipe.write_text(yaml.safe_dump({**body, "variants": variants}), "utf-8")


def kill_after_first_training(recipe: Path) -> None:
    """Start a comparison and kill all of it once one trial is trained."""
    process = subprocess.Popen(
        [sys.executable, "-m", "retune.cli", "compare", str(recipe), *METHODS],
        cwd=recipe.parent,
        env=environment(recipe.parent),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + GUARD_SECONDS
    while not adapters(recipe) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(adapters(recipe)) == 1


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """A comparison that was killed after its first training, and went on."""
    recipe = write_project(tmp_path_factory.mktemp("compared") / "project")
    variants: dict[str, dict[str, Any]] = {
        "broken": {"method.target_modules": ["no_such_module"]},
        "full": {
            "method": {"kind": "full"},
            "quantization.kind": "none",
            "training.learning_rate": 1.0e-3,
        },
    }
    add_variants(recipe, variants)
    kill_after_first_training(recipe)
    first = adapters(recipe)
    done = compare(recipe, *METHODS, "--set", "device.price_per_hour=3.6", "--json")
    told = last_json(done)
    assert first.items() <= adapters(recipe).items()
    return recipe, told


def test_a_killed_comparison_goes_on_without_repeating_a_trial(compared: Compared) -> None:
    """The first trial is found, the second trained, and a failed one is a line with its reason."""
    found = trials(compared[1])
    assert found["full"]["state"] == "finished" and found["full"]["reused"]
    assert found["lora"]["state"] == "finished" and not found["lora"]["reused"]
    assert found["broken"]["state"] == "failed"
    assert "no_such_module" in found["broken"]["reason"]
    assert compared[1]["trials"][-1]["result"]["name"] == "broken"


def test_each_trial_tells_what_it_costs_and_gives(compared: Compared) -> None:
    """Full trains all parameters, LoRA a part; costs are measured; the price is of the time.

    They are scored on validation rows: the test rows are the gate's.
    """
    found = trials(compared[1])
    full, lora = found["full"], found["lora"]
    [side] = (compared[0].parent / ".retune" / "split_rows").glob("*/validation.parquet")
    validation = pq.read_metadata(side).num_rows
    assert validation not in (0, TEST_ROWS)
    assert full["trainable_parameters"] == full["total_parameters"]
    assert 0 < lora["trainable_parameters"] < lora["total_parameters"]
    assert full["learning_rate"] == 1.0e-3 and lora["learning_rate"] == 1.0e-2
    for each in compared[1]["trials"][:2]:
        cost = each["result"]["cost"]
        assert cost["seconds"] > 0 and cost["memory_bytes"] > 0 and cost["tokens"] > 0
        # 3.6 an hour is 0.001 a second.
        assert each["price"] == pytest.approx(0.001 * cost["seconds"])
        assert each["metrics"]["sql_execution_match"]["n"] == validation
    assert any(each["pareto"] for each in compared[1]["trials"])


def test_pages_and_pictures_are_written(compared: Compared) -> None:
    """Below the store's reports, with JSON and CSV beside them."""
    folder = Path(compared[1]["folder"])
    assert folder.name.startswith("compare-")
    kept = json.loads((folder / "comparison.json").read_text("utf-8"))
    assert [each["result"]["name"] for each in kept["trials"]] == list(trials(compared[1]))
    for name in ("compare.html", "compare.md", "compare.png", "compare.svg", "comparison.csv"):
        assert (folder / name).stat().st_size > 500


def test_mlflow_has_a_run_per_trial_below_that_of_the_comparison(compared: Compared) -> None:
    """Their names, their end, and the figures of each."""
    path = compared[0].parent / ".retune" / "mlflow" / "mlflow.db"
    query = """
        SELECT child.name, child.status, tag.value FROM runs child
        JOIN tags tag ON tag.run_uuid = child.run_uuid AND tag.key = 'mlflow.parentRunId'
        JOIN runs parent ON parent.run_uuid = tag.value
        WHERE parent.name = 'small: comparison' AND parent.status = 'FINISHED'
    """
    with sqlite3.connect(path) as database:
        runs = {name: status for name, status, _ in database.execute(query)}
        metrics = {name for (name,) in database.execute("SELECT DISTINCT key FROM metrics")}
    assert runs == {"full": "FINISHED", "lora": "FINISHED", "broken": "FAILED"}
    assert {"training.seconds", "trainable_parameters", "sql_execution_match"} <= metrics


def test_a_run_of_the_recipe_reuses_what_a_trial_trained(compared: Compared) -> None:
    """The keys are those of `retune run`: a plan of the lora trial shows a hit for its training."""
    lora = trials(compared[1])["lora"]["overrides"]
    chosen = [part for text in lora for part in ("--set", text)]
    done = retune(compared[0], "--json", *chosen, command="plan")
    stages = {line["name"]: line["state"] for line in last_json(done)["stages"]}
    assert stages["train_adapter"] in ("hit", "reused")


@pytest.fixture
def project(compared: Compared, tmp_path: Path) -> Path:
    """A copy of the compared project, free to change."""
    copy_project(compared[0].parent, tmp_path / "project")
    return tmp_path / "project" / "recipe.yaml"


HOPELESS = ("--grid", "training.learning_rate=1e-2,2e-2,1e-9", "--set", "method.r=2")


def test_a_hopeless_trial_is_stopped_and_stays_stopped(project: Path) -> None:
    """A step size of 1e-9 learns nothing: stopped at half, and not begun by the next run."""
    told = last_json(sweep(project, *HOPELESS, "--json"))
    stopped = trials(told)["learning_rate=1e-9"]
    assert stopped["state"] == "stopped", stopped["reason"]
    assert "after 50% of the training" in stopped["reason"]
    assert [each["result"]["state"] for each in told["trials"]] == [
        "finished",
        "finished",
        "stopped",
    ]
    before = adapters(project)
    work = list((project.parent / ".retune" / "train_adapter").glob("*.work"))
    stamps = {path: path.stat().st_mtime_ns for path in work}
    again = trials(last_json(sweep(project, *HOPELESS, "--json")))
    assert again["learning_rate=1e-9"]["reason"] == stopped["reason"]
    assert again["learning_rate=1e-2"]["reused"]
    assert adapters(project) == before
    assert {path: path.stat().st_mtime_ns for path in work} == stamps


def test_a_sweep_whose_trials_all_fail_is_one_clear_error(project: Path) -> None:
    """Exit code 5, both trials named, no table."""
    done = sweep(project, "--grid", "method.target_modules=[nope],[nada]")
    assert done.returncode == 5, done.stderr
    assert "All 2 trials failed" in done.stderr
    assert "nope" in done.stderr and "nada" in done.stderr
    assert "Traceback" not in done.stderr


def test_dask_runs_trials_at_once_and_a_search_goes_on(project: Path) -> None:
    """Two workers draw two points; then one more of the same search, one by one."""
    search = ("--range", "training.learning_rate=1e-3..1e-2:log", "--search", "random", "--json")
    two_workers = ("--runner", "dask", "--workers", "2")
    spread = sweep(project, *search, "--trials", "2", *two_workers, cold=True)
    two = trials(last_json(spread))
    assert [each["state"] for each in two.values()] == ["finished", "finished"]
    three = trials(last_json(sweep(project, *search, "--trials", "3")))
    assert len(three) == 3
    assert all(three[name]["reused"] for name in two)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("compare", "--methods", "lora,lorra"), "there is no method lorra"),
        (("sweep",), "Nothing to vary"),
        (("sweep", "--grid", "method.rank=4,8"), "method.rank"),
        (("sweep", "--grid", "method.r=4,8", "--workers", "2"), "needs --runner dask or ray"),
        (("sweep", "--grid", "method.r=4,8", "--set", "data.train=no.jsonl"), "no.jsonl"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    """Exit code 2 or 3, and no store is made."""
    recipe = write_project(tmp_path / "project")
    done = retune(recipe, *arguments[1:], command=arguments[0])
    assert done.returncode in (2, 3)
    assert told in " ".join(done.stderr.split())
    # An empty database of MLflow lies there from the start.
    assert [each.name for each in (recipe.parent / ".retune").iterdir()] == ["mlflow"]
