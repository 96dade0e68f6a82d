"""Sets of rows that a figure is not made for: it is unscored, nothing warns, and nothing stops."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from retune.scoring.classification.baselines import score_plain_classifiers
from retune.scoring.classification.picture import draw_confusion_png, draw_confusion_svg
from retune.scoring.classification.records import ClassificationRow
from retune.scoring.classification.score import score_classification
from retune.scoring.uncertainty.estimates import estimate_ratio
from retune.scoring.uncertainty.paired import paired_difference
from retune.scoring.uncertainty.resampling import exp_of_ratio

LABELS = ("a", "b", "c")
SURE = np.array([[1.0, 0.0, 0.0]] * 3)
NONE = np.full((3, 3), np.nan)


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def rows(golds: Sequence[str | None], reason: str | None = None) -> list[ClassificationRow]:
    return [
        ClassificationRow(row_id=str(at), gold=gold, unscored_reason=reason)
        for at, gold in enumerate(golds)
    ]


@pytest.mark.parametrize("groups", [None, ["g", "g", "g"], ["g", "h", "g"]])
@pytest.mark.parametrize(
    ("golds", "predicted", "probabilities", "accuracy", "mcc"),
    [
        (["a", "a", "a"], ["a", "a", "a"], SURE, 1.0, None),
        (["a", "a", "a"], ["b", "b", "b"], SURE, 0.0, None),
        (["a", "b", "c"], [None, None, None], NONE, 0.0, 0.0),
        (["a", "b", "c"], ["a", "a", "a"], np.vstack([NONE[:2], SURE[:1]]), 1 / 3, 0.0),
        ([None, None, None], ["a", "a", "a"], SURE, None, None),
        (["z", "z", "z"], ["a", "a", "a"], SURE, None, None),
    ],
)
def test_one_class_no_class_and_no_probability_are_scored_or_unscored(
    golds: Any, predicted: Any, probabilities: Any, accuracy: Any, mcc: Any, groups: Any
) -> None:
    scores = score_classification(
        rows(golds), predicted, probabilities, groups, labels=LABELS, resamples=50
    )
    assert scores.estimates["accuracy"].value == accuracy
    assert scores.estimates["mcc"].value == mcc
    for figure in scores.estimates.values():
        assert figure.value is None or np.isfinite(figure.value)
        assert figure.low is None or figure.high is None or figure.low <= figure.high


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        ([""] * 6, ["a", "b"] * 3),
        (["x y"] * 6, ["a"] * 6),
        (["\ud800 x"] * 6, ["a", "b"] * 3),
        (["x"], ["a"]),
        (["\x00"] * 6, ["a", "b", "c"] * 2),
    ],
)
def test_baselines_of_poor_training_rows_are_scored_or_unscored(
    texts: list[str], labels: list[str]
) -> None:
    found = score_plain_classifiers(
        texts, labels, rows(LABELS), ["", "\ud800", "x"], labels=LABELS, resamples=50
    )
    for scores in found.values():
        figure = scores.estimates["macro_f1"]
        assert figure.value is not None or sum(scores.unscored_by_reason.values()) == 3


@pytest.mark.parametrize("name", ["$\\frac", "\ud800", "\x00a", "<a>&", "🚫", "a" * 5000, "$b_{"])
def test_a_label_of_any_signs_is_drawn(name: str) -> None:
    counts = [[1, 2, 0], [0, 3, 1]]
    assert draw_confusion_png(counts, [name, "b"]).startswith(b"\x89PNG")
    assert draw_confusion_svg(counts, [name, "b"]).encode().startswith(b"<svg")


def test_a_loss_beyond_all_measure_is_worse_and_no_infinity() -> None:
    """A mean of 100,000 nats is more than a float's e^709: it is compared all the same."""
    assert np.isfinite(estimate_ratio([1e300, 1], [1, 1], statistic=exp_of_ratio).value or 0)
    found = paired_difference(
        [(1e5, 1)] * 8, [(1.0, 1)] * 8, direction="lower_is_better", statistic=exp_of_ratio
    )
    assert found.verdict == "worse" and np.isfinite(found.high or 0)
