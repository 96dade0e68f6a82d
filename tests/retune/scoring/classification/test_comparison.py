"""Which of two classifiers is better, and when that is undecided."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retune.errors import ScoringError
from retune.scoring.classification.comparison import compare_classifications
from retune.scoring.classification.counts import macro_f1, number_labels, tabulate_counts
from retune.scoring.classification.records import ClassificationOutcome
from retune.scoring.uncertainty.resampling import percentile_interval, resample_sums


def outcomes(
    golds: Sequence[str], predictions: Sequence[str | None], groups: Sequence[str | None] = ()
) -> list[ClassificationOutcome]:
    return [
        ClassificationOutcome(
            row_id=str(at),
            group=groups[at] if groups else None,
            gold=gold,
            predicted=prediction,
            correct=prediction == gold,
        )
        for at, (gold, prediction) in enumerate(zip(golds, predictions, strict=True))
    ]


def unscored(outcome: ClassificationOutcome) -> ClassificationOutcome:
    return outcome.model_copy(update={"correct": None, "unscored_reason": "gold_missing"})


def test_a_clear_winner_is_better_and_the_loser_worse() -> None:
    golds = ["a", "b"] * 20
    good, bad = outcomes(golds, golds), outcomes(golds, ["a"] * 40)
    ahead = compare_classifications(good, bad, labels=["a", "b"], resamples=500)
    behind = compare_classifications(bad, good, labels=["a", "b"], resamples=500)
    # Always a: F1 of a is 2*20 / (20 + 40) = 2/3, of b 0.
    assert ahead["macro_f1"].difference == pytest.approx(1 - 1 / 3, abs=1e-12)
    assert ahead["accuracy"].difference == 0.5
    assert {found.verdict for found in ahead.values()} == {"better"}
    assert {found.verdict for found in behind.values()} == {"worse"}


def test_three_lucky_rows_are_undecided() -> None:
    """The bootstrap alone is certain; with 3 differing rows p cannot be below 2/2^3 = .25."""
    golds = ["a", "b", "a"]
    found = compare_classifications(
        outcomes(golds, golds), outcomes(golds, ["b", "a", "b"]), labels=["a", "b"], resamples=500
    )
    assert found["macro_f1"].difference == 1.0
    assert found["macro_f1"].p_value == 0.25
    assert found["macro_f1"].verdict == "undecided"
    assert found["accuracy"].p_value == pytest.approx(0.25, abs=1e-12)


def test_rows_of_one_group_count_once() -> None:
    """40 differing rows in 2 groups: p cannot be below 2/2^2."""
    golds = ["a", "b"] * 20
    groups = ["x"] * 20 + ["y"] * 20
    found = compare_classifications(
        outcomes(golds, golds, groups),
        outcomes(golds, [None] * 40, groups),
        labels=["a", "b"],
        resamples=500,
    )
    assert (found["macro_f1"].p_value, found["macro_f1"].verdict) == (0.5, "undecided")


def test_equal_models_are_undecided() -> None:
    golds = ["a", "b", "a", "b"]
    same = outcomes(golds, ["a", "b", "b", None])
    found = compare_classifications(same, same, labels=["a", "b"], resamples=100)
    assert {(f.difference, f.p_value, f.verdict) for f in found.values()} == {
        (0.0, 1.0, "undecided")
    }


def test_rows_are_matched_by_id_and_left_out_where_one_side_is_unscored() -> None:
    golds = ["a", "b", "a", "b"]
    ours, theirs = outcomes(golds, golds), outcomes(golds, ["a", "a", "a", "a"])
    expected = compare_classifications(ours[:3], theirs[:3], labels=["a", "b"], resamples=100)
    theirs[3] = unscored(theirs[3])
    found = compare_classifications(ours, theirs[::-1], labels=["a", "b"], resamples=100)
    assert found == expected
    assert {f.n for f in found.values()} == {3}


def test_without_a_row_that_both_scored_nothing_is_zero() -> None:
    ours = outcomes(["a"], ["a"])
    found = compare_classifications(ours, [unscored(ours[0])], labels=["a", "b"], resamples=100)
    assert {(f.difference, f.n, f.verdict) for f in found.values()} == {(None, 0, "undecided")}


@pytest.mark.parametrize("n", [0, 1])
def test_other_rows_or_golds_are_an_error(n: int) -> None:
    ours = outcomes(["a", "b"], ["a", "b"])
    with pytest.raises(ScoringError, match=f"2 different rows, {n} in both"):
        compare_classifications(ours, ours[:n], labels=["a", "b"])
    with pytest.raises(ScoringError, match="1 rows with two gold labels, the first '1'"):
        compare_classifications(ours, outcomes(["a", "a"], ["a", "b"]), labels=["a", "b"])


class TestReference:
    """The paired figures of cls_reference."""

    LABELS = ("negative", "neutral", "positive")

    @pytest.fixture(scope="class")
    def reference(self, reference_data: Path) -> dict[str, Any]:
        text = (reference_data / "cls_reference/reference.json").read_text(encoding="utf-8")
        found: dict[str, Any] = json.loads(text)["xlmt_pt"]
        return found

    @pytest.fixture(scope="class")
    def answers(self, reference_data: Path) -> list[dict[str, str]]:
        path = reference_data / "cls_reference/xlmt_pt_predictions.csv"
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def test_mcnemar_and_difference(
        self, reference: dict[str, Any], answers: list[dict[str, str]]
    ) -> None:
        golds = [row["gold"] for row in answers]
        champion, challenger = (
            outcomes(golds, [row[model] for row in answers]) for model in ("champion", "challenger")
        )
        found = compare_classifications(champion, challenger, labels=self.LABELS)
        paired = reference["paired"]
        assert found["accuracy"].p_value == pytest.approx(paired["mcnemar_exact_p"], abs=1e-9)
        difference = reference["champion"]["macro_f1"] - reference["challenger"]["macro_f1"]
        assert found["macro_f1"].difference == pytest.approx(difference, abs=1e-9)
        # Other draws than the file's (rows are sorted first), and more: near, not equal.
        expected = reference["bootstrap"]["paired_difference_macro_f1"]
        interval = (found["macro_f1"].low, found["macro_f1"].high)
        assert interval == pytest.approx(expected, abs=0.04 * (expected[1] - expected[0]))
        assert found["macro_f1"].verdict == "undecided"

    def test_bootstrap_of_the_difference(
        self, reference: dict[str, Any], answers: list[dict[str, str]]
    ) -> None:
        """The recipe: default_rng(20240601).integers(0, n, n), 2000 draws, percentiles."""
        gold = number_labels([row["gold"] for row in answers], self.LABELS)
        sides = [
            tabulate_counts(gold, number_labels([row[model] for row in answers], self.LABELS), 3)
            for model in ("champion", "challenger")
        ]
        drawn = resample_sums(np.hstack(sides), resamples=2000)
        difference = macro_f1(drawn[:, :9]) - macro_f1(drawn[:, 9:])
        expected = reference["bootstrap"]["paired_difference_macro_f1"]
        assert percentile_interval(difference) == pytest.approx(expected, abs=1e-9)
