"""Preferences and rewards as stages of a run: named by the recipe, between training and merging."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from retune.calibrating import read_calibration
from tests.flows.conftest import retune, write_project


def write_pairs(project: Path) -> None:
    """Write pairs over the project's own rows: the reference against one excuse for all."""
    lines = (project / "data" / "train.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    pairs = [
        {"prompt": row["question"], "chosen": row["query"], "rejected": "Não sei."} for row in rows
    ]
    text = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
    (project / "pairs.jsonl").write_text(text, "utf-8")


def change(path: Path, **sections: object) -> None:
    """Set sections of a recipe."""
    recipe = yaml.safe_load(path.read_text("utf-8"))
    path.write_text(yaml.safe_dump({**recipe, **sections}), "utf-8")


DPO = {"pairs": "pairs.jsonl", "max_steps": 4, "batch_size": 4, "learning_rate": 1.0e-3}
GRPO = {"max_steps": 1, "prompts_per_step": 2, "answers": 2, "max_new_tokens": 4}


@pytest.mark.slow
def test_both_are_trained_between_training_and_merging(tmp_path: Path) -> None:
    """Each takes what the one before trained; the last is scored, merged and registered."""
    recipe = write_project(tmp_path / "project")
    write_pairs(recipe.parent)
    without = retune(recipe, command="plan")
    assert "train_preferences" not in without.stdout + without.stderr

    change(recipe, dpo=DPO, grpo=GRPO)
    done = retune(recipe, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    names = [line["name"] for line in summary["stages"]]
    order = ["format_pairs", "train_adapter", "train_preferences", "train_rewards", "merge_adapter"]
    assert [name for name in names if name in order] == order
    report = (Path(summary["report"]) / "report.md").read_text("utf-8")
    assert "Reward of drawn answers" in report
    # What rewards took is no measure of what supervised fine-tuning was estimated to need.
    assert "(estimated" not in report
    assert read_calibration(recipe.parent / ".retune") == {}

    # Another threshold of the rewards leaves supervised training and preferences as they are.
    change(recipe, dpo=DPO, grpo={**GRPO, "temperature": 0.9})
    planned = retune(recipe, command="plan")
    lines = (planned.stdout + planned.stderr).splitlines()
    state = {name: next(line for line in lines if name in line) for name in order}
    assert "reused" in state["train_preferences"] or "hit" in state["train_preferences"]
    assert "temperature" in state["train_rewards"]


@pytest.mark.slow
def test_bad_pairs_stop_a_run_before_anything_is_trained(tmp_path: Path) -> None:
    """No file, and a line that is no pair: one message, exit code 3, and no stage has run."""
    recipe = write_project(tmp_path / "project")
    change(recipe, dpo=DPO)
    absent = retune(recipe)
    assert absent.returncode == 3
    assert "dpo.pairs" in absent.stderr

    (recipe.parent / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b"}\n', "utf-8")
    broken = retune(recipe)
    assert broken.returncode == 3
    assert "pairs.jsonl:1: no 'rejected'" in broken.stderr
    assert not (recipe.parent / ".retune" / "train_adapter").exists()
