"""What is right, wrong and unscored, and the figures of cls_reference."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retune.errors import ScoringError
from retune.scoring.classification.calibration import expected_calibration_error
from retune.scoring.classification.counts import (
    UNPARSABLE,
    accuracy,
    macro_f1,
    number_labels,
    tabulate_counts,
)
from retune.scoring.classification.records import ClassificationRow, ClassificationScores
from retune.scoring.classification.score import score_classification
from retune.scoring.uncertainty.resampling import percentile_interval, resample_sums

LABELS = ("a", "b")


def rows(golds: Sequence[str | None]) -> list[ClassificationRow]:
    return [ClassificationRow(row_id=str(at), gold=gold) for at, gold in enumerate(golds)]


def score(
    golds: Sequence[str | None], predictions: Sequence[str | None], **more: Any
) -> ClassificationScores:
    return score_classification(
        rows(golds), predictions, **{"labels": LABELS, "resamples": 100, **more}
    )


def test_an_unparsable_answer_is_wrong_and_counted() -> None:
    found = score(["a", "a", "b", "b"], ["a", None, "b", "b"])
    assert found.estimates["accuracy"].value == 3 / 4
    assert found.estimates["unparsable_rate"].value == 1 / 4
    assert [outcome.correct for outcome in found.outcomes] == [True, False, True, True]
    assert found.confusion == ((1, 0, 1), (0, 2, 0))


def test_a_row_that_cannot_be_scored_is_in_no_figure() -> None:
    """Without a gold, with an unknown one, or where the model could not be asked."""
    marked = [
        *rows(["a", None, "z"]),
        ClassificationRow(row_id="3", gold="b", unscored_reason="prompt_too_long"),
    ]
    table = [[0.9, 0.1], [0.5, 0.5], [0.5, 0.5], [7.0, 7.0]]
    found = score_classification(marked, ["a", "b", "a", None], table, labels=LABELS, resamples=100)
    assert found.unscored_by_reason == {
        "gold_missing": 1,
        "gold_not_a_label": 1,
        "prompt_too_long": 1,
    }
    assert [outcome.correct for outcome in found.outcomes] == [True, None, None, None]
    assert {estimate.n for estimate in found.estimates.values()} == {0, 1}  # 0: MCC
    assert found.labels_without_rows == ("b",)


def test_with_all_rows_unscored_nothing_is_zero() -> None:
    found = score([None, None], ["a", None], probabilities=[[0.5, 0.5]] * 2)
    assert {estimate.value for estimate in found.estimates.values()} == {None}
    assert {scores.f1.value for scores in found.per_class} == {None}
    assert found.labels_without_rows == LABELS
    assert found.confusion == ((0, 0, 0), (0, 0, 0))


def test_gold_as_prediction_scores_exactly_one() -> None:
    found = score(["a", "b", "b"], ["a", "b", "b"], probabilities=np.eye(2)[[0, 1, 1]])
    values = {name: estimate.value for name, estimate in found.estimates.items()}
    assert values == {
        **dict.fromkeys(("macro_f1", "weighted_f1", "accuracy", "balanced_accuracy", "mcc"), 1.0),
        **dict.fromkeys(("unparsable_rate", "ece", "brier", "brier_of_top"), 0.0),
    }


def test_outcomes_keep_group_and_confidence() -> None:
    found = score(
        ["a", "b"], ["a", None], probabilities=[[0.8, 0.2], [np.nan, np.nan]], groups=["g", None]
    )
    kept = [(o.row_id, o.group, o.predicted, o.confidence) for o in found.outcomes]
    assert kept == [("0", "g", "a", 0.8), ("1", None, None, None)]


@pytest.mark.parametrize(
    ("golds", "predictions", "more", "message"),
    [
        ([], [], {}, "0 rows and 0 predictions"),
        (["a"], [], {}, "1 rows and 0 predictions"),
        (["a"], ["c"], {}, "none of .*'c'"),
        (["a"], ["x" * 1_000_000], {}, "none of .*'x{80}'"),
        (["a"], ["a"], {"labels": ["a"]}, "at least two"),
        (["a"], ["a"], {"labels": ["a", "b", "a"]}, "each once"),
        (["a"], ["a"], {"groups": ["g", "g"]}, "1 rows and 2 groups"),
        (["a"], ["a"], {"probabilities": [[1.0]]}, r"shape \(1, 1\)"),
        (["a"], ["a"], {"probabilities": [2.0]}, r"shape \(1,\)"),
    ],
)
def test_what_cannot_be_scored_at_all_is_an_error(
    golds: list[str | None], predictions: list[str | None], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ScoringError, match=message) as caught:
        score(golds, predictions, **more)
    assert len(str(caught.value)) < 500


class TestReference:
    """The figures of cls_reference, which scikit-learn made."""

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

    @staticmethod
    def scored(answers: list[dict[str, str]], model: str) -> ClassificationScores:
        return score_classification(
            rows([row["gold"] for row in answers]),
            [row[model] or None for row in answers],
            labels=["negative", "neutral", "positive"],
            resamples=500,
        )

    def test_figures(self, reference: dict[str, Any], answers: list[dict[str, str]]) -> None:
        expected = reference["champion"]
        found = self.scored(answers, "champion")
        for name in ("macro_f1", "weighted_f1", "accuracy", "balanced_accuracy", "mcc"):
            assert found.estimates[name].value == pytest.approx(expected[name], abs=1e-9), name
        assert [list(row[:3]) for row in found.confusion] == expected["confusion"]
        for scores in found.per_class:
            kept = expected["per_class"][scores.label]
            assert scores.precision == pytest.approx(kept["precision"], abs=1e-9)
            assert scores.recall == pytest.approx(kept["recall"], abs=1e-9)
            assert scores.f1.value == pytest.approx(kept["f1-score"], abs=1e-9)
            assert scores.support == kept["support"]

    def test_unparsable(self, reference: dict[str, Any], answers: list[dict[str, str]]) -> None:
        expected = reference["with_unparsable"]
        found = self.scored(answers, "champion_with_unparsable")
        values = {name: estimate.value for name, estimate in found.estimates.items()}
        assert values["unparsable_rate"] == expected["unparsable"] / len(answers)
        assert values["accuracy"] == pytest.approx(expected["accuracy_unparsable_wrong"], abs=1e-9)
        assert values["macro_f1"] == pytest.approx(
            expected["macro_f1_over_the_3_labels_unparsable_wrong"], abs=1e-9
        )

    def test_calibration(self, reference: dict[str, Any], answers: list[dict[str, str]]) -> None:
        """To 5e-7, as far as the file's confidences go (6 decimals); test_baselines has 1e-9."""
        confidence = np.array([float(row["champion_confidence"]) for row in answers])
        correct = np.array([row["champion"] == row["gold"] for row in answers])
        ece = expected_calibration_error(confidence, correct)
        assert ece == pytest.approx(reference["champion"]["ece10"], abs=5e-7)
        assert ((confidence - correct) ** 2).mean() == pytest.approx(
            reference["champion"]["brier_of_top"], abs=5e-7
        )

    @pytest.mark.parametrize("model", ["champion", "challenger"])
    def test_bootstrap_of_macro_f1(
        self, reference: dict[str, Any], answers: list[dict[str, str]], model: str
    ) -> None:
        """The recipe: default_rng(20240601).integers(0, n, n), 2000 draws, percentiles."""
        labels = ["negative", "neutral", "positive"]
        gold = number_labels([row["gold"] for row in answers], labels)
        predicted = number_labels([row[model] for row in answers], labels)
        assert UNPARSABLE not in predicted
        table = tabulate_counts(gold, predicted, 3)
        drawn = resample_sums(table, resamples=2000)
        expected = reference["bootstrap"][f"{model}_macro_f1"]
        assert percentile_interval(macro_f1(drawn)) == pytest.approx(expected, abs=1e-9)
        if model == "champion":
            expected = reference["bootstrap"]["champion_accuracy"]
            assert percentile_interval(accuracy(drawn)) == pytest.approx(expected, abs=1e-9)


def test_one_row_has_figures_but_no_bootstrapped_interval() -> None:
    """Drawing the one row again and again would look like certainty; Wilson's interval does not."""
    found = score_classification(
        [ClassificationRow(row_id="1", gold="a")], ["a"], [[0.9, 0.1]], labels=["a", "b"]
    ).estimates
    for name in ("macro_f1", "balanced_accuracy", "ece", "brier"):
        assert found[name].value is not None and found[name].n == 1
        assert (found[name].low, found[name].high) == (None, None)
    # Wilson for 1 of 1: 1 / (1 + 1.96^2) = 0.2065.
    assert found["accuracy"].low == pytest.approx(0.2065, abs=1e-4)
