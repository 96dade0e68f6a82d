"""The flow with a classification head: trained, merged, scored by classes, gated, registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.flows.conftest import last_json, retune
from tests.flows.test_other_rows import labelled_rows, write_rows_project
from tests.tiny_models import write_snapshot

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
    assert any("Macro F1" in reason for reason in summary["decision"]["reasons"])
    registered = summary["registered"]
    assert registered["answers_equal"] == registered["rows_checked"] > 0
    ran = {line["name"] for line in summary["stages"]}
    assert "train_classifier" in ran and "train_adapter" not in ran
    (config,) = (recipe.parent / ".retune" / "merge_adapter").glob("*/config.json")
    labels = json.loads(config.read_text("utf-8"))["id2label"]
    assert labels == {"0": "bom", "1": "ruim"}


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


def test_champions_of_either_kind_are_compared_by_classes(tmp_path: Path) -> None:
    """A head against a champion that writes, and the other way round.

    Who cannot be compared at all is refused before training: rows of other classes, rows without,
    and a guard per token over a base with other tokens.
    """
    rows, gate = labelled_rows(), {"min_gain": -1.0}
    writes = SETTINGS["training"] | {"max_steps": 2, "watch": "loss"}
    writer = SETTINGS | {"head": None, "gate": gate, "training": writes}
    recipe = write_rows_project(tmp_path / "project", rows, **writer)
    assert last_json(retune(recipe, "--json"))["decision"]["promote"]

    written = yaml.safe_load(recipe.read_text("utf-8"))
    recipe.write_text(yaml.safe_dump(written | SETTINGS), "utf-8")
    summary = last_json(retune(recipe, "--json"))
    assert "perplexity" in summary["models"]["champion"]
    assert _against_champion(summary) == {"macro_f1", "accuracy"}
    assert summary["decision"]["promote"]

    recipe.write_text(yaml.safe_dump(written), "utf-8")
    summary = last_json(retune(recipe, "--json"))
    assert set(summary["models"]["champion"]) == {"macro_f1", "accuracy"}
    assert _against_champion(summary) == {"macro_f1", "accuracy"}
    assert not summary["decision"]["promote"]

    write_snapshot(recipe.parent / "other", "qwen3")
    perplexity = ("--set", "gate.guards={perplexity: 0.1}")
    assert "has another tokenizer" in _refused(recipe, "--set", "model.id=other", *perplexity)
    others = recipe.parent / "data" / "rows.jsonl"
    others.write_text(others.read_text("utf-8").replace("bom", "ótimo"), "utf-8")
    assert "for the labels bom, ruim, and the rows have ruim, ótimo" in _refused(recipe)
    lines = [{"instruction": f"Diga {n}", "output": f"O {n}."} for n in range(60)]
    others.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    assert "no source of rows has labels" in _refused(recipe)


def _against_champion(summary: dict[str, Any]) -> set[str]:
    compared = summary["decision"]["comparisons"]
    return {each["metric"] for each in compared if each["against"] == "champion"}


def _refused(recipe: Path, *arguments: str) -> str:
    done = retune(recipe, *arguments)
    assert done.returncode != 0
    assert len(list((recipe.parent / ".retune" / "train_adapter").iterdir())) == 1
    return " ".join((done.stdout + done.stderr).split())
