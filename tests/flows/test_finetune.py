"""The flow as a user runs it: what is told, what is reused, what runs again and why."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import TEST_ROWS, copy_project, environment, last_json, retune
from tests.preloading import run_command
from tests.waiting import GUARD_SECONDS

pytestmark = pytest.mark.slow

STAGES = [
    "load_databases",
    "load_rows (train)",
    "load_rows (test)",
    "clean_rows",
    "split_rows",
    "remove_leaks",
    "format_chat (train)",
    "format_chat (test)",
    "prepare_sides",
    "check_method",
    "estimate_training",
    "measure_stages",
    "quantize_model",
    "score_perplexity (base)",
    "score_general_text (base)",
    "score_sql (base)",
    "probe_model (base)",
    "train_adapter",
    "score_perplexity (adapter)",
    "score_general_text (adapter)",
    "score_sql (adapter)",
    "probe_model (adapter)",
    "merge_adapter",
    "score_perplexity (merged)",
    "score_general_text (merged)",
    "score_sql (merged)",
    "probe_model (merged)",
    "decide",
    "register_model",
]
AFTER_TRAINING = STAGES[STAGES.index("train_adapter") :]
Finished = tuple[Path, dict[str, Any]]


def plan(recipe: Path, *arguments: str) -> dict[str, tuple[str, str]]:
    """Return ``{stage: (hit or run, reason)}`` as `retune plan` says."""
    lines = last_json(retune(recipe, "--json", *arguments, command="plan"))["stages"]
    return {_label(line): (line["state"], line["reason"]) for line in lines}


def to_run(planned: dict[str, tuple[str, str]]) -> list[str]:
    return [name for name, (state, _) in planned.items() if state == "run"]


def _label(line: dict[str, Any]) -> str:
    return f"{line['name']} ({line['role']})" if line["role"] else str(line["name"])


def artifact(recipe: Path, summary: dict[str, Any], stage: str) -> Path:
    key = next(line["key"] for line in summary["stages"] if line["name"] == stage)
    return recipe.parent / ".retune" / stage / key


def test_a_first_run_tells_all_models_stages_decision_and_version(finished: Finished) -> None:
    """The JSON holds every figure with value, low, high and n, and every stage with its reason."""
    summary = finished[1]
    assert list(summary["models"]) == ["base", "adapter", "merged"]
    for metrics in summary["models"].values():
        assert set(metrics) == {
            "sql_execution_match",
            "sql_exact_match",
            "perplexity",
            "general_text_bits_per_byte",
            "probe_pass_rate",
        }
        assert metrics["perplexity"]["n"] == TEST_ROWS
        for metric in metrics.values():
            assert metric["low"] <= metric["value"] <= metric["high"]
    assert [_label(line) for line in summary["stages"]] == STAGES
    assert {line["state"] for line in summary["stages"]} == {"ran"}
    assert all(line["reason"] and line["seconds"] > 0 for line in summary["stages"])
    assert summary["decision"]["promote"] in (True, False) and summary["decision"]["reasons"]
    assert summary["registered"]["version"] == 1
    assert summary["mlflow_run_id"]


@pytest.fixture(scope="module")
def repeated(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A copy of the finished project, and what a second run there told."""
    copy = tmp_path_factory.mktemp("repeated") / "project"
    copy_project(finished[0].parent, copy)
    return copy / "recipe.yaml", last_json(retune(copy / "recipe.yaml", "--json"))


def test_a_second_run_reuses_every_stage_and_gives_the_same_figures(
    finished: Finished, repeated: Finished
) -> None:
    """Nothing is computed twice, also after the project has moved to another folder."""
    project, again = repeated
    assert {line["state"] for line in again["stages"]} == {"reused"}
    assert again["models"] == finished[1]["models"]
    assert again["decision"] == finished[1]["decision"]
    assert again["registered"] == finished[1]["registered"]
    manifests = [
        recipe.parent / ".retune" / "manifests" / "small" / "1.json"
        for recipe in (finished[0], project)
    ]
    assert manifests[0].read_bytes() == manifests[1].read_bytes()


def test_a_reused_run_is_as_complete_in_mlflow_as_a_computed_one(
    finished: Finished, repeated: Finished
) -> None:
    """Both parent runs hold the same metrics, and both lead to the one training run."""
    project, again = repeated
    with sqlite3.connect(project.parent / ".retune" / "mlflow" / "mlflow.db") as database:

        def ask(query: str, run: str) -> dict[str, Any]:
            return dict(database.execute(query, (run,)).fetchall())

        metrics = "SELECT key, value FROM latest_metrics WHERE run_uuid = ?"
        tags = "SELECT key, value FROM tags WHERE run_uuid = ?"
        runs = [finished[1]["mlflow_run_id"], again["mlflow_run_id"]]
        first, second = (ask(metrics, run) for run in runs)
        first_tags, second_tags = (ask(tags, run) for run in runs)
    assert runs[0] != runs[1]
    timeless = {name for name in first if not name.startswith("seconds.")}
    assert timeless and {k: first[k] for k in timeless} == {k: second[k] for k in timeless}
    assert first_tags["retune.training_run"] == second_tags["retune.training_run"]
    assert first_tags["retune.training_state"] == "ran"
    assert second_tags["retune.training_state"] == "reused"


def test_a_changed_threshold_runs_the_decision_and_the_registration_alone(project: Path) -> None:
    """A gate's bound is part of no other key."""
    planned = plan(project, "--set", "gate.min_gain=0.25")
    assert to_run(planned) == ["decide", "register_model"]
    assert planned["decide"][1] == "gate.min_gain: 0.0 -> 0.25"


def test_a_changed_learning_rate_runs_training_and_what_follows(project: Path) -> None:
    """Data, quantized model and the base's scores are reused."""
    planned = plan(project, "--set", "training.learning_rate=2.0e-2")
    assert to_run(planned) == AFTER_TRAINING
    assert planned["train_adapter"][1] == "training.learning_rate: 0.01 -> 0.02"
    assert planned["merge_adapter"][1] == "adapter will be new"


def test_a_runtime_setting_runs_nothing(project: Path) -> None:
    """What cannot change a result is part of no key; memory is counted anew, which it changes."""
    assert to_run(plan(project, "--set", "scoring.runtime.batch_size=3")) == ["measure_stages"]


def test_an_added_row_leaves_the_quantized_model_alone(project: Path) -> None:
    """The rows are loaded anew, since their file changed; the model does not depend on them."""
    rows = project.parent / "data" / "train.jsonl"
    row = json.loads(rows.read_text("utf-8").splitlines()[0])
    with open(rows, "a", encoding="utf-8") as file:
        file.write(json.dumps({**row, "id": "added", "question": "Quantos são?"}) + "\n")
    planned = plan(project)
    assert planned["load_rows (train)"] == ("run", "source changed")
    assert planned["load_rows (test)"][0] == planned["format_chat (test)"][0] == "hit"
    assert planned["clean_rows"] == ("run", "rows will be new")
    assert planned["quantize_model"][0] == "hit"


def test_an_added_row_is_computed_without_scoring_the_base_again(project: Path) -> None:
    """The test side's digest is as before, so that the base's scores are reused."""
    rows = project.parent / "data" / "train.jsonl"
    row = json.loads(rows.read_text("utf-8").splitlines()[0])
    with open(rows, "a", encoding="utf-8") as file:
        file.write(json.dumps({**row, "id": "added", "question": "Quantos são?"}) + "\n")
    summary = last_json(retune(project, "--json"))
    ran = [_label(line) for line in summary["stages"] if line["state"] == "ran"]
    prepared = ["load_rows (train)", "clean_rows", "split_rows", "remove_leaks"]
    prepared += ["format_chat (train)", "prepare_sides"]
    # Whether the method leaves room for the longest row is asked of the new rows.
    assert ran[:9] == [*prepared, "check_method", "estimate_training", "train_adapter"]
    assert not any("(base)" in label for label in ran)


def test_an_added_source_is_read_and_tokenized_alone(project: Path) -> None:
    """The rows of the other files are neither read nor tokenized again."""
    more = project.parent / "data" / "more.jsonl"
    row = json.loads((project.parent / "data" / "train.jsonl").read_text("utf-8").splitlines()[0])
    more.write_text(json.dumps({**row, "question": "Quantos são?"}) + "\n", "utf-8")
    sources = "data.train=[data/train.jsonl, data/more.jsonl]"
    summary = last_json(retune(project, "--json", "--set", sources))
    states = {_label(line): line["state"] for line in summary["stages"]}
    assert states["load_rows (train.0)"] == states["format_chat (train.0)"] == "reused"
    assert states["load_rows (train.1)"] == states["format_chat (train.1)"] == "ran"


def test_a_deleted_artifact_is_said_to_be_deleted(finished: Finished, project: Path) -> None:
    """The key is still known, so that the reason is not `first run`."""
    shutil.rmtree(artifact(project, finished[1], "merge_adapter"))
    planned = plan(project)
    assert planned["merge_adapter"] == ("run", "artifact deleted")
    assert planned["train_adapter"][0] == "hit"


def test_a_flipped_bit_is_found_named_and_healed(finished: Finished, project: Path) -> None:
    """One bit of the adapter, same size: found, computed again, and the same bytes as before."""
    weights = artifact(project, finished[1], "train_adapter") / "adapter_model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert plan(project)["train_adapter"] == (
        "run",
        "artifact damaged: adapter_model.safetensors changed",
    )
    healed = last_json(retune(project, "--json"))
    states = {_label(line): line["state"] for line in healed["stages"]}
    assert [name for name, state in states.items() if state == "ran"] == ["train_adapter"]
    assert weights.read_bytes() == good


def test_the_module_gives_the_same_stage_keys_as_the_command_line(
    finished: Finished, project: Path
) -> None:
    """``python -m flows.finetune`` reuses what ``retune run`` computed, under the same keys."""
    done = run_command(
        "flows.finetune",
        [str(project)],
        folder=Path.cwd(),
        environment=environment(project.parent),
        timeout=GUARD_SECONDS,
    )
    summary = last_json(done)
    assert [line["key"] for line in summary["stages"]] == [
        line["key"] for line in finished[1]["stages"]
    ]
    assert {line["state"] for line in summary["stages"]} == {"reused"}


def test_importing_the_flow_imports_no_torch() -> None:
    """A scheduler or a worker that only looks at the flow must stay light."""
    heavy = "('torch', 'transformers', 'mlflow')"
    code = f"import sys, flows.finetune; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
