"""The flow with a classification head: trained, merged, scored by classes, gated, registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.flows.conftest import last_json, retune
from tests.flows.test_other_rows import labelled_rows, write_rows_project

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {
    "probes": None,
    "head": {"class_weights": "balanced"},
    "method": {"kind": "lora", "r": 4},
    "training": {
        "max_steps": 30,
        "batch_size": 8,
        "evaluations": 2,
        "learning_rate": 1.0e-2,
        "watch": "macro_f1",
    },
}


def test_a_head_goes_the_whole_way(tmp_path: Path) -> None:
    """A head names classes alone, decides by macro F1, and is registered with its labels.

    The base writes, and has a perplexity too.
    """
    recipe = write_rows_project(tmp_path / "project", labelled_rows(), **SETTINGS)
    summary = last_json(retune(recipe, "--json"))
    assert "perplexity" in summary["models"]["base"]
    for role in ("adapter", "merged"):
        assert set(summary["models"][role]) == {"macro_f1", "accuracy"}
    assert any("macro_f1" in reason for reason in summary["decision"]["reasons"])
    registered = summary["registered"]
    assert registered["answers_equal"] == registered["rows_checked"] > 0
    ran = {line["name"] for line in summary["stages"]}
    assert "train_classifier" in ran and "train_adapter" not in ran
    (config,) = (recipe.parent / ".retune" / "merge_adapter").glob("*/config.json")
    labels = json.loads(config.read_text("utf-8"))["id2label"]
    assert labels == {"0": "bom", "1": "ruim"}

    # The same again, by a model that writes: it has to beat the head, on classes.
    written = yaml.safe_load(recipe.read_text("utf-8"))
    del written["head"]
    written["training"] |= {"max_steps": 2, "watch": "loss"}
    recipe.write_text(yaml.safe_dump(written), "utf-8")
    again = last_json(retune(recipe, "--json"))
    if summary["decision"]["promote"]:
        assert set(again["models"]["champion"]) == {"macro_f1", "accuracy"}
        against = {c["metric"] for c in again["decision"]["comparisons"]}
        assert {"macro_f1", "accuracy"} <= against


def test_a_head_over_other_rows_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """Instructions have no labels."""
    rows = [{"instruction": f"Diga {n}", "output": f"{n}"} for n in range(30)]
    recipe = write_rows_project(tmp_path / "project", rows, probes=None, head={})
    done = retune(recipe)
    assert done.returncode != 0
    assert "learns from rows with labels alone" in " ".join((done.stdout + done.stderr).split())
    assert not (recipe.parent / ".retune" / "train_classifier").exists()


def test_weights_for_unknown_labels_are_refused_before_anything_is_scored(tmp_path: Path) -> None:
    """The rows say bom and ruim."""
    settings = {**SETTINGS, "head": {"class_weights": {"bom": 1.0, "mau": 2.0}}}
    recipe = write_rows_project(tmp_path / "project", labelled_rows(), **settings)
    done = retune(recipe)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "no row has the label mau" in said and "no weight for ruim" in said
    assert not (recipe.parent / ".retune" / "score_perplexity").exists()
