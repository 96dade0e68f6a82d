"""Heads on real sets: sms_spam and told_br, beside what a plain classifier makes of the same rows.

The sets are not part of the repository: the tests skip where their folder is missing.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest

from retune.model_records import BaseRef, ModelRef, ScoredModel
from retune.modeling.snapshots import locate_base
from retune.records import SideRef
from retune.scoring.labels import score_baselines, score_labels
from retune.scoring.stages import BaselineInputs, BaselineSettings, LabelInputs, LabelSettings
from retune.training.classifying import train_classifier
from retune.training.stages import ClassifierInputs, ClassifierSettings
from retune.weights.stages import QuantizeInputs, QuantizeSettings
from tests.labelled_sides import write_labelled_side
from tests.making import make_workdir, settings_of, source_of
from tests.shared_sets import shared_set
from tests.tiny_models import REPOSITORY

pytestmark = pytest.mark.slow


def read_texts(name: str, text: str, label: str, names: dict[str, str]) -> list[tuple[str, str]]:
    """Read a set's texts and labels, each folded text once, shuffled."""
    path = shared_set(name, f"{name}.csv")
    found: dict[str, tuple[str, str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            folded = " ".join(row[text].casefold().split())
            found.setdefault(folded, (row[text].strip(), names[row[label]]))
    texts = [pair for folded, pair in found.items() if folded]
    random.Random(0).shuffle(texts)
    return texts


def make_model(base: BaseRef, folder: Path) -> ModelRef:
    from retune.weights.quantize import quantize_model

    text = folder / "text.jsonl"
    text.write_text('{"text": "Quantas cidades há na tabela?"}\n', "utf-8")
    section = settings_of(QuantizeSettings, model={"id": "base"}, quantization={"kind": "none"})
    inputs = QuantizeInputs(base=base, reference_text=source_of(text))
    return quantize_model(inputs, section, make_workdir(folder / "quantize"))


SETS: dict[str, tuple[Any, ...]] = {
    "sms_spam": (("text", "label", {"ham": "ham", "spam": "spam"}), 700, 1.0e-3, 1, 200, 60),
    "told_br": (("text", "toxic", {"0": "clean", "1": "toxic"}), 1000, 3.0e-4, 1, 200, 40),
}
"""Columns and labels, rows and step size and passes of the training, rows held out and watched."""


@pytest.mark.parametrize("name", SETS)
def test_a_head_beats_the_largest_class_and_the_base(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """By macro F1 on rows held out; how near TF-IDF and regression are is printed."""
    columns, rows, rate, epochs, held_out, watched_rows = SETS[name]
    texts = read_texts(name, *columns)
    base = locate_base(str(REPOSITORY / "assets" / "base_tiny"), None)
    ends = tuple(accumulate((0, held_out, watched_rows, rows)))
    test, watched, train = (
        write_labelled_side(tmp_path / str(end), base.folder, texts[start:end])
        for start, end in pairwise(ends)
    )
    labels = tuple(sorted({label for _, label in texts}))
    section = settings_of(
        ClassifierSettings,
        seed=7,  # type: ignore[arg-type]
        model={"id": "base"},
        quantization={},
        method={"kind": "full"},
        training={
            "epochs": epochs,
            "learning_rate": rate,
            "batch_size": 32,
            "evaluations": 2,
            "gradient_checkpointing": False,
            "watch": "macro_f1",
            "watch_rows": watched_rows,
        },
        head={"class_weights": "balanced"},
    )
    model = make_model(base, tmp_path)
    inputs = ClassifierInputs(
        train=train, validation=watched, base=base, model=model, labels=labels
    )
    adapter = train_classifier(inputs, section, make_workdir(tmp_path / "train"))

    head = macro_f1(adapter.as_scored(model, base), test, labels, tmp_path / "head")
    writer = macro_f1(base.as_scored(), test, labels, tmp_path / "base")
    plain = score_baselines(
        BaselineInputs(train=train, rows=test, labels=labels),
        BaselineSettings(resamples=100),
        make_workdir(tmp_path / "plain"),
    ).metrics
    majority = plain["majority.macro_f1"].value
    tfidf = plain["tfidf_logistic_regression.macro_f1"].value
    assert majority is not None and tfidf is not None
    for key, value in (("head", head), ("tfidf", tfidf), ("base", writer), ("majority", majority)):
        record_property(f"{name}_{key}_macro_f1", value)
    print(
        f"\n{name}: head {head:.3f}, TF-IDF {tfidf:.3f}, base {writer:.3f}, largest {majority:.3f}"
    )
    assert head > majority
    assert head > writer


def macro_f1(model: ScoredModel, rows: SideRef, labels: tuple[str, ...], folder: Path) -> float:
    report = score_labels(
        LabelInputs(model=model, rows=rows, labels=labels),
        settings_of(LabelSettings, scoring={"resamples": 100}),
        make_workdir(folder),
    )
    value = report.metrics["macro_f1"].value
    assert value is not None
    return value
