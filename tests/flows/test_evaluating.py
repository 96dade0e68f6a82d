"""Models side by side as a user asks for them: what is reused, shown and refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import TEST_ROWS, last_json, retune
from tests.tiny_models import write_snapshot

pytestmark = pytest.mark.slow

Finished = tuple[Path, dict[str, Any]]


def evaluate(recipe: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return retune(recipe, *arguments, command="evaluate")


def artifact(recipe: Path, stage: str) -> Path:
    """Return the one artifact of a stage, relative to the project as a user writes it."""
    found = [path for path in (recipe.parent / ".retune" / stage).iterdir() if path.is_dir()]
    assert len(found) == 1
    return found[0].relative_to(recipe.parent)


def lines(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return ``{stage (role): state}`` of the terminal's lines."""
    told = {}
    for line in done.stderr.splitlines():
        for sign, state in (("  = ", "reused"), ("  + ", "ran")):
            if line.startswith(sign):
                told[line[4:].split(f" {state} ")[0].strip()] = state
    return told


def registry(recipe: Path) -> list[tuple[Any, ...]]:
    """Return what a training, a decision or a registration would change."""
    path = recipe.parent / ".retune" / "mlflow" / "mlflow.db"
    with sqlite3.connect(path) as database:
        return [
            *database.execute("SELECT run_uuid, status FROM runs ORDER BY 1"),
            *database.execute("SELECT name, version FROM model_versions ORDER BY 1, 2"),
            *database.execute("SELECT name, alias, version FROM registered_model_aliases"),
        ]


def test_models_of_a_run_are_not_scored_again(finished: Finished, project: Path) -> None:
    """Base, adapter, merged folder and registered version have the run's figures and stages."""
    before = registry(project)
    names = [
        "base",
        str(artifact(project, "train_adapter")),
        str(artifact(project, "merge_adapter")),
        "models:/small/1",
    ]
    done = evaluate(project, *names, "--json")
    found = last_json(done)

    told = lines(done)
    scored = {name: state for name, state in told.items() if name.startswith(("score", "probe"))}
    assert len(scored) >= 4 * 3 and set(told.values()) == {"reused"}, done.stderr

    summary = finished[1]
    of_run = ("base", "adapter", "merged", "merged")
    for model, role in zip(found["models"], of_run, strict=True):
        for name, metric in summary["models"][role].items():
            figure = {k: v for k, v in model["metrics"][name].items() if k != "unscored"}
            assert figure == metric
    assert [model["kind"] for model in found["models"]] == [
        "base",
        "adapter",
        "snapshot",
        "registered",
    ]
    assert found["rows"] == TEST_ROWS and found["comparable_tokens"]
    # The eight rows ask about three databases, which is too few for any verdict.
    assert [note.split(":")[0] for note in found["notes"]] == [
        "Rows fall into 3 groups (databases, documents)"
    ]
    assert {each["against"] for each in found["comparisons"]} == {"base"}
    assert registry(project) == before


def test_a_model_of_another_tokenizer_gets_the_same_rows_in_its_own(
    project: Path, tmp_path: Path
) -> None:
    """Bits per byte are compared and perplexity is not; pages go where they are asked to go."""
    write_snapshot(project.parent / "other", "qwen3")
    done = evaluate(project, "base", "other", "--json", "--out", str(tmp_path / "pages"))
    found = last_json(done)

    told = lines(done)
    assert told["prepare_sides"] == "ran" and told["score_sql (other)"] == "ran"
    assert told["score_sql (base)"] == "reused"
    assert found["models"][1]["likeness"] == "other_tokens" and not found["comparable_tokens"]
    metrics = {each["metric"] for each in found["comparisons"]}
    assert "bits_per_byte" in metrics and "perplexity" not in metrics
    assert found["rows"] == TEST_ROWS

    folder = tmp_path / "pages"
    assert json.loads((folder / "comparison.json").read_text("utf-8")) == found
    page = (folder / "comparison.html").read_text("utf-8")
    assert "Another tokenizer" in page and "Perplexity</th>" not in page
    assert all((folder / path).is_file() for path in found["models"][1]["files"].values())


def test_what_was_scored_here_a_run_need_not_score(tmp_path: Path) -> None:
    """The other way round: the base's scores of an evaluation are a later run's."""
    from tests.flows.conftest import write_project

    recipe = write_project(tmp_path / "project")
    done = evaluate(recipe, "base", "--json")
    assert set(lines(done).values()) == {"ran"} and last_json(done)["comparisons"] == []
    planned = last_json(retune(recipe, "--json", command="plan"))["stages"]
    states = {(line["name"], line["role"]): line["state"] for line in planned}
    assert states["score_perplexity", "base"] == states["score_sql", "base"] == "hit"
    assert states["train_adapter", None] == "run"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no/such/folder", "there is no folder"),
        ("owner/not-there", "on the hub it cannot be used"),
        ("models:/absent@champion", "no model of this name with a version; it has: small"),
        ("models:/small@gold", "no alias gold. It has the versions 1 and"),
        ("models:/small/9", "no version 9. It has the versions 1"),
        ("data", "no config.json and no adapter_config.json"),
    ],
)
def test_what_is_no_model_stops_the_command_before_any_stage(
    project: Path, name: str, told: str
) -> None:
    """A clear message, exit code 2, and nothing computed."""
    done = evaluate(project, "base", name)
    assert done.returncode == 2, done.stderr
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr and not lines(done)


def test_an_adapter_of_another_shape_is_refused(project: Path) -> None:
    """It says which layer finds no place."""
    adapter = project.parent / "adapter"
    shutil.copytree(project.parent / artifact(project, "train_adapter"), adapter)
    # Else the base that it names is found, and fits.
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    config["base_model_name_or_path"] = "owner/name"
    (adapter / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    write_snapshot(project.parent / "other", "gpt2")
    done = evaluate(project, "adapter", "--set", "model.id=other")
    assert done.returncode == 2, done.stderr
    assert "does not fit" in done.stderr and "has no layer" in done.stderr
    assert "Traceback" not in done.stderr


def test_efforts_of_a_model_stand_side_by_side(tmp_path: Path) -> None:
    """Each asks in its own words; a thought is counted and not scored."""
    from tests.flows.conftest import write_project
    from tests.tiny_models import HARMONY_TEMPLATE

    recipe = write_project(tmp_path / "project", "gpt_oss")
    said = "<|start|>system<|message|>Reasoning: {{ reasoning_effort or 'medium' }}<|end|>"
    (recipe.parent / "effort.jinja").write_text(said + HARMONY_TEMPLATE, "utf-8")
    template = ("--set", "prompt.template=effort.jinja")
    found = last_json(evaluate(recipe, "base", "--effort", "low,high", *template, "--json"))
    assert [each["name"] for each in found["models"]] == ["base, effort low", "base, effort high"]
    assert [each["effort"] for each in found["models"]] == ["low", "high"]
    for model in found["models"]:
        names = {"thinking_tokens", "answer_tokens", "seconds_per_answer", "sql_execution_match"}
        assert names <= set(model["metrics"])
    perplexity = [each["metrics"]["perplexity"]["value"] for each in found["models"]]
    assert perplexity[0] != perplexity[1]
