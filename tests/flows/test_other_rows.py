"""The flow on rows that are no text-to-SQL: classes, instructions, plain text; and all probes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.flows.conftest import last_json, retune, write_project
from tests.tiny_models import REPOSITORY

pytestmark = pytest.mark.slow

PLACES = ("praia", "serra", "cidade", "rio", "ilha", "fazenda", "feira", "escola")
JUDGEMENTS = {
    "bom": ("gostei muito de visitar", "recomendo a todos", "voltaria amanhã para ver"),
    "ruim": ("não gostei nada de visitar", "não recomendo a ninguém", "nunca mais volto para ver"),
}


def labelled_rows() -> list[dict[str, str]]:
    """48 short judgements, half of each class; no two texts are alike."""
    return [
        {"text": f"{words} a {place} {number}", "label": label}
        for label, said in JUDGEMENTS.items()
        for number, words in enumerate(said)
        for place in PLACES
    ]


def write_rows_project(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> Path:
    """Write the small project over other rows."""
    recipe = write_project(folder)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "data" / "rows.jsonl").write_text(lines, "utf-8")
    written = yaml.safe_load(recipe.read_text("utf-8"))
    written |= {
        "data": {"train": "data/rows.jsonl"},
        "split": {"validation_fraction": 0.2, "test_fraction": 0.3},
        "quality": {"drop_leaked": True},
        **settings,
    }
    recipe.write_text(yaml.safe_dump(written), "utf-8")
    return recipe


def test_rows_with_labels_are_scored_by_class_beside_their_baselines(tmp_path: Path) -> None:
    """Macro F1 decides; TF-IDF tells these classes apart by a word, the largest class cannot."""
    recipe = write_rows_project(tmp_path / "project", labelled_rows(), probes=None)
    summary = last_json(retune(recipe, "--json"))
    for metrics in summary["models"].values():
        assert {"macro_f1", "accuracy", "perplexity", "general_text_bits_per_byte"} == set(metrics)
    baselines = summary["baselines"]
    assert set(baselines) == {"majority", "tfidf_logistic_regression"}
    f1 = {name: figures["macro_f1"]["value"] for name, figures in baselines.items()}
    assert f1["tfidf_logistic_regression"] > f1["majority"]
    assert any("Macro F1" in reason for reason in summary["decision"]["reasons"])
    report = (recipe.parent / ".retune" / "reports" / summary["mlflow_run_id"]).joinpath(
        "report.html"
    )
    assert "TF-IDF and logistic regression" in report.read_text("utf-8")


def test_instructions_are_scored_by_perplexity_and_shown_as_samples(tmp_path: Path) -> None:
    """Without queries and classes, perplexity decides, and a few answers are written for people."""
    rows = [
        {"instruction": f"Diga o número {number}", "output": f"O número é {number}."}
        for number in range(60)
    ]
    recipe = write_rows_project(tmp_path / "project", rows, probes=None)
    summary = last_json(retune(recipe, "--json"))
    assert set(summary["models"]["base"]) == {"perplexity", "general_text_bits_per_byte"}
    assert len(summary["samples"]) == 3
    assert set(summary["samples"][0]["answers"]) == {"base", "adapter", "merged"}
    assert "Perplexity" in summary["decision"]["reasons"][0]


OWN_METRIC = """
import datasets
import evaluate


class Brevity(evaluate.Metric):
    def _info(self):
        texts = {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="", features=datasets.Features(texts)
        )

    def _compute(self, predictions, references):
        return {"brevity": 1 / (1 + len(predictions[0]))}
"""


def test_answers_are_gated_by_metrics_of_text_and_a_teams_own_guards(tmp_path: Path) -> None:
    """The metric of a folder and a rule guard where chrF decides; all references are kept."""
    rows = [
        {"instruction": f"Diga o número {at}", "output": [f"O número é {at}.", f"É {at}."]}
        for at in range(60)
    ]
    metrics = ["chrf", "bleu", {"folder": "metrics/brevity"}]
    recipe = write_rows_project(
        tmp_path / "project",
        rows,
        probes=None,
        scoring={
            "max_new_tokens": 8,
            "resamples": 200,
            "text_metrics": metrics,
            "rubrics": [{"kind": "length", "at_most": 50}],
        },
        gate={"metric": "chrf", "guards": {"own_metric.brevity": 0.5, "rubric_length": 0.5}},
    )
    folder = recipe.parent / "metrics" / "brevity"
    folder.mkdir(parents=True)
    (folder / "brevity.py").write_text(OWN_METRIC, "utf-8")
    summary = last_json(retune(recipe, "--json"))
    figures = {"perplexity", "general_text_bits_per_byte", "chrf", "bleu", "own_metric.brevity"}
    figures.add("rubric_length")
    assert all(set(metrics) == figures for metrics in summary["models"].values())
    assert "chrF" in summary["decision"]["reasons"][0]
    guards = [each["metric"] for each in summary["decision"]["guards"]]
    assert guards == ["own_metric.brevity", "rubric_length"]
    assert len(summary["samples"]) == 3
    reports = (recipe.parent / ".retune" / "score_text").glob("*/rows.jsonl")
    kept = [json.loads(line) for each in reports for line in each.read_text("utf-8").splitlines()]
    assert kept and all(len(row["references"]) == 2 for row in kept)
    page = (Path(summary["report"]) / "report.html").read_text("utf-8")
    assert "Brevity" in page and "Rubric length" in page
    # Every held-out row can be looked through.
    assert "A row is won where the released model has the higher chrF than the base." in page


def test_every_probe_can_be_asked_for(tmp_path: Path) -> None:
    """Cases, counterfactual pairs and perturbed questions, each with its figures for each model."""
    probes = {
        "file": "probes.yaml",
        "counterfactuals": str(REPOSITORY / "conf" / "probes" / "counterfactual_pt.yaml"),
        "robustness": {"kinds": ["upper", "typos"], "rows": 6},
        "max_new_tokens": 4,
    }
    recipe = write_project(tmp_path / "project")
    written = yaml.safe_load(recipe.read_text("utf-8"))
    recipe.write_text(yaml.safe_dump({**written, "probes": probes}), "utf-8")
    summary = last_json(retune(recipe, "--json"))
    ran = {line["name"] for line in summary["stages"]}
    assert {"probe_model", "probe_counterfactuals", "probe_robustness"} <= ran
    flips = summary["models"]["merged"]["flip_rate"]
    assert 0 <= flips["value"] <= 1 and 0 < flips["n"] <= 12
