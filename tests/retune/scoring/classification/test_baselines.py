"""What a classifier has to beat."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sklearn import metrics
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline, make_union

from retune.errors import ScoringError
from retune.scoring.classification.baselines import (
    MAJORITY,
    TFIDF,
    predict_majority,
    predict_tfidf,
    score_plain_classifiers,
)
from retune.scoring.classification.records import ClassificationRow
from tests.tiny_models import REPOSITORY

GOOD = ["bom demais", "muito bom", "bom mesmo", "gostei, bom"]
BAD = ["ruim demais", "muito ruim", "ruim mesmo", "odiei, ruim"]


def rows(golds: list[str]) -> list[ClassificationRow]:
    return [ClassificationRow(row_id=str(at), gold=gold) for at, gold in enumerate(golds)]


# Files of the reference, and how their texts are labelled.
SETS = {
    "sms_spam": ("sms_spam/sms_spam.csv", lambda row: row["label"]),
    "told_br(racism>=1)": ("told_br/told_br.csv", lambda row: str(int(int(row["racism"]) >= 1))),
}


def test_the_figures_of_scikit_learn_are_met() -> None:
    """On the shipped reviews, with the recipe written out here once more."""
    sides = []
    for side in ("train", "test"):
        lines = (REPOSITORY / "assets/reviews_pt" / f"{side}.jsonl").read_text("utf-8").splitlines()
        sides.append([json.loads(line) for line in lines[:200]])
    (train, train_golds), (held_out, golds) = (
        ([row["text"] for row in side], [row["label"] for row in side]) for side in sides
    )
    labels = sorted(set(train_golds))
    terms = make_union(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=3, sublinear_tf=True),
    )
    regression = make_pipeline(terms, LogisticRegression(C=4, max_iter=1000))
    regression.fit(train, train_golds)
    answers = {
        TFIDF: regression.predict(held_out),
        MAJORITY: [Counter(train_golds).most_common(1)[0][0]] * len(golds),
    }
    found = score_plain_classifiers(
        train, train_golds, rows(golds), held_out, labels=labels, resamples=50
    )
    for name, theirs in answers.items():
        ours = {key: estimate.value for key, estimate in found[name].estimates.items()}
        assert ours["accuracy"] == pytest.approx(metrics.accuracy_score(golds, theirs), abs=1e-9)
        assert ours["mcc"] == pytest.approx(metrics.matthews_corrcoef(golds, theirs), abs=1e-9)
        for key in ("macro", "weighted"):
            expected = metrics.f1_score(golds, theirs, average=key, zero_division=0)
            assert ours[f"{key}_f1"] == pytest.approx(expected, abs=1e-9), (name, key)


@pytest.mark.parametrize("name", SETS)
def test_the_figures_of_cls_reference_are_met(shared_data: Path, name: str) -> None:
    """Both baselines to 1e-9, ECE included; the split is the one that its SOURCE.md states."""
    file, read_label = SETS[name]
    with (shared_data / file).open(encoding="utf-8", newline="") as handle:
        table = list(csv.DictReader(handle))
    text = (shared_data / "cls_reference/reference.json").read_text(encoding="utf-8")
    expected: dict[str, Any] = json.loads(text)["baselines"][name]
    golds = [read_label(row) for row in table]
    train, held_out, train_golds, held_out_golds = train_test_split(
        [row["text"] for row in table], golds, test_size=0.2, random_state=13, stratify=golds
    )
    found = score_plain_classifiers(
        train,
        train_golds,
        rows(held_out_golds),
        held_out,
        labels=sorted(set(golds)),
        resamples=50,
    )
    for ours, theirs in ((MAJORITY, "majority"), (TFIDF, "tfidf_lr")):
        for figure, value in expected[theirs].items():
            key = "ece" if figure == "ece10" else figure
            estimate = found[ours].estimates[key]
            assert estimate.value == pytest.approx(value, abs=1e-9), (ours, figure)


def test_majority_answers_the_most_frequent_training_label() -> None:
    found = predict_majority(["b", "a", "b", "b"], 2, ["a", "b", "c"])
    assert found.predictions == ["b", "b"]
    assert found.probabilities is not None
    assert found.probabilities.tolist() == [[0.25, 0.75, 0.0]] * 2


def test_of_equally_frequent_labels_the_first_of_the_task_is_answered() -> None:
    assert predict_majority(["b", "a"], 1, ["b", "a"]).predictions == ["b"]
    assert predict_majority(["b", "a"], 1, ["a", "b"]).predictions == ["a"]


def test_tfidf_learns_a_word_and_gives_unseen_labels_no_probability() -> None:
    found = predict_tfidf(
        GOOD + BAD, ["pos"] * 4 + ["neg"] * 4, ["que bom", "que ruim"], ["neg", "neutral", "pos"]
    )
    assert found.predictions == ["pos", "neg"]
    assert found.probabilities is not None
    assert found.probabilities[:, 1].tolist() == [0.0, 0.0]
    assert found.probabilities.sum(axis=1) == pytest.approx([1.0, 1.0], abs=1e-12)


def test_held_out_golds_are_not_seen() -> None:
    """Turning all held-out golds round leaves the answers as they are."""
    answers = [
        [
            outcome.predicted
            for scores in score_plain_classifiers(
                GOOD + BAD,
                ["p"] * 4 + ["n"] * 4,
                rows(golds),
                ["bom", "ruim"],
                labels=["n", "p"],
                resamples=10,
            ).values()
            for outcome in scores.outcomes
        ]
        for golds in (["p", "n"], ["n", "p"])
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("texts", "golds", "reason"),
    [
        (GOOD, ["p"] * 4, "baseline_one_label"),
        (["", " "], ["p", "n"], "baseline_no_terms"),
        (["uma", "xyz"], ["p", "n"], "baseline_no_terms"),
    ],
)
def test_where_nothing_can_be_fitted_the_rows_are_unscored(
    texts: list[str], golds: list[str], reason: str
) -> None:
    found = score_plain_classifiers(
        texts, golds, rows(["p", "n"]), ["bom", "ruim"], labels=["n", "p"], resamples=10
    )
    assert found[TFIDF].unscored_by_reason == {reason: 2}
    assert found[TFIDF].estimates["macro_f1"].value is None
    assert found[MAJORITY].estimates["accuracy"].value == 0.5


def test_training_rows_must_be_there_and_labelled() -> None:
    with pytest.raises(ScoringError, match="0 training texts"):
        predict_tfidf([], [], ["x"], ["a", "b"])
    with pytest.raises(ScoringError, match="1 training texts and 2 labels"):
        predict_tfidf(["x"], ["a", "b"], ["x"], ["a", "b"])
    with pytest.raises(ScoringError, match=r"none of .*'z'"):
        predict_majority(["z"], 1, ["a", "b"])
    with pytest.raises(ScoringError, match="1 held-out rows and 0 texts"):
        score_plain_classifiers(["x"], ["a"], rows(["a"]), [], labels=["a", "b"])
