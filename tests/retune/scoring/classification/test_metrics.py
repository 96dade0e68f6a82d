"""Classification figures against hand calculation and scikit-learn."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    matthews_corrcoef,
)

from retune.errors import ScoringError
from retune.scoring.classification.calibration import (
    check_probabilities,
    estimate_calibration,
    expected_calibration_error,
)
from retune.scoring.classification.counts import STATISTICS, UNPARSABLE, tabulate_counts
from retune.scoring.classification.metrics import (
    compute_figures,
    confusion_counts,
    estimate_figures,
)

# 8 rows of a, b, c. Golds a a a a b b c c; predicted a a b - b c c c (- is unparsable).
GOLD = np.array([0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = np.array([0, 0, 1, UNPARSABLE, 1, 2, 2, 2])


def test_figures_by_hand() -> None:
    """The unparsable answer is wrong for its label and an answer of no label."""
    found = compute_figures(GOLD, PREDICTED, 3)
    # a: right 2, gold 4, predicted 2, F1 = 4/6; b: 1, 2, 2, F1 = 2/4; c: 2, 2, 3, F1 = 4/5.
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 4 / 5) / 3, abs=1e-15)
    assert found["weighted_f1"] == pytest.approx((4 * 2 / 3 + 2 / 2 + 2 * 4 / 5) / 8, abs=1e-15)
    assert found["accuracy"] == 5 / 8
    assert found["balanced_accuracy"] == pytest.approx((2 / 4 + 1 / 2 + 2 / 2) / 3, abs=1e-15)
    # c = 5, s = 8, sum p t = 2*4 + 2*2 + 3*2 = 18, sum p2 = 4+4+9+1 = 18, sum t2 = 16+4+4 = 24.
    expected = (5 * 8 - 18) / math.sqrt((64 - 18) * (64 - 24))
    assert found["mcc"] == pytest.approx(expected, abs=1e-15)


def test_the_confusion_matrix_has_a_column_for_unparsable() -> None:
    assert confusion_counts(GOLD, PREDICTED, 3).tolist() == [
        [2, 1, 0, 1],
        [0, 1, 1, 0],
        [0, 0, 2, 0],
    ]


def test_each_label_has_its_own_figures() -> None:
    _, per_class = estimate_figures(GOLD, PREDICTED, ["a", "b", "c"], resamples=100)
    found = [(s.support, s.predicted, s.precision, s.recall, s.f1.value) for s in per_class]
    assert found[0] == pytest.approx((4, 2, 2 / 2, 2 / 4, 4 / 6), abs=1e-15)
    assert found[1] == pytest.approx((2, 2, 1 / 2, 1 / 2, 2 / 4), abs=1e-15)
    assert found[2] == pytest.approx((2, 3, 2 / 3, 2 / 2, 4 / 5), abs=1e-15)


def test_a_label_without_rows_is_in_no_average() -> None:
    """0 would look like a score: a perfect model would have macro F1 2/3."""
    estimates, per_class = estimate_figures(GOLD[:6], GOLD[:6], ["a", "b", "c"], resamples=50)
    assert estimates["macro_f1"].value == 1.0
    assert estimates["balanced_accuracy"].value == 1.0
    assert (per_class[2].f1.value, per_class[2].recall, per_class[2].precision) == (None,) * 3


def test_predicting_a_label_without_rows_costs_the_right_label() -> None:
    """Golds a a, predicted a c: F1 of a is 2/3, and c has none though it was predicted."""
    gold, predicted = np.array([0, 0]), np.array([0, 2])
    estimates, per_class = estimate_figures(gold, predicted, ["a", "b", "c"], resamples=50)
    assert estimates["macro_f1"].value == pytest.approx(2 / 3, abs=1e-15)
    assert (per_class[2].f1.value, per_class[2].precision) == (None, 0.0)


def test_one_gold_label_has_no_mcc_and_one_predicted_label_has_mcc_zero() -> None:
    one = np.zeros(4, dtype=np.int64)
    assert compute_figures(one, np.array([0, 1, 0, 0]), 2)["mcc"] is None
    assert compute_figures(np.array([0, 1, 0, 0]), one, 2)["mcc"] == 0.0


def test_always_answering_the_frequent_label_looks_good_only_in_weighted_f1() -> None:
    """993 of 1000: weighted F1 = .993 * 2 * 993 / 1993, macro half of that F1."""
    gold = np.array([0] * 993 + [1] * 7)
    found = compute_figures(gold, np.zeros_like(gold), 2)
    f1 = 2 * 993 / 1993
    assert found["weighted_f1"] == pytest.approx(0.993 * f1, abs=1e-12)
    assert found["macro_f1"] == pytest.approx(f1 / 2, abs=1e-12)


_ANSWERS = st.integers(2, 5).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.lists(
            st.tuples(st.integers(0, n - 1), st.integers(UNPARSABLE, n - 1)),
            min_size=1,
            max_size=40,
        ),
    )
)


@settings(deadline=None)
@given(_ANSWERS)
def test_the_resampled_formulas_are_those_of_scikit_learn(
    answers: tuple[int, list[tuple[int, int]]],
) -> None:
    """What the intervals are made of equals what stands beside them, for any answers."""
    n_labels, rows = answers
    gold, predicted = (np.array(side) for side in zip(*rows, strict=True))
    sums = tabulate_counts(gold, predicted, n_labels).sum(axis=0)
    for name, value in compute_figures(gold, predicted, n_labels).items():
        resampled = float(STATISTICS[name](sums))
        expected = math.nan if value is None else value
        assert resampled == pytest.approx(expected, abs=1e-12, nan_ok=True), name


@settings(deadline=None)
@given(_ANSWERS)
def test_with_all_labels_present_the_figures_are_the_plain_ones(
    answers: tuple[int, list[tuple[int, int]]],
) -> None:
    """`labels=` of all labels, and the names that scikit-learn gives to the figures."""
    n_labels, rows = answers
    complete = [*rows, *((at, at) for at in range(n_labels))]
    gold, predicted = (np.array(side) for side in zip(*complete, strict=True))
    predicted = np.maximum(predicted, 0)
    found = compute_figures(gold, predicted, n_labels)
    labels = list(range(n_labels))
    macro = f1_score(gold, predicted, labels=labels, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(macro, abs=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(gold, predicted), abs=1e-12
    )
    assert found["mcc"] == pytest.approx(matthews_corrcoef(gold, predicted), abs=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(random: object) -> None:
    order = list(range(len(GOLD)))
    random.shuffle(order)  # type: ignore[attr-defined]
    groups = ["x", "x", "y", None, None, "y", "z", "z"]
    expected = estimate_figures(GOLD, PREDICTED, list("abc"), groups=groups, resamples=200)
    found = estimate_figures(
        GOLD[order],
        PREDICTED[order],
        list("abc"),
        groups=[groups[at] for at in order],
        resamples=200,
    )
    assert found == expected


def test_rows_that_share_a_group_widen_the_interval() -> None:
    """100 rows that are 10 times the same 10 rows say what 10 rows say."""
    gold, predicted = np.array([0, 1] * 5), np.array([0, 1, 0, 0, 0, 1, 1, 1, 0, 1])
    groups = [f"g{at}" for at in range(10)] * 10
    wide, _ = estimate_figures(
        np.tile(gold, 10), np.tile(predicted, 10), ["a", "b"], groups=groups, resamples=2000
    )
    narrow, _ = estimate_figures(
        np.tile(gold, 10), np.tile(predicted, 10), ["a", "b"], resamples=2000
    )
    for name in ("macro_f1", "accuracy", "mcc"):
        widths = [(found[name].high or 0.0) - (found[name].low or 0.0) for found in (wide, narrow)]
        assert widths[0] > 2 * widths[1], name


def test_thirty_labels_and_five_thousand_rows_take_seconds() -> None:
    generator = np.random.default_rng(0)
    gold, predicted = generator.integers(0, 30, (2, 5000))
    start = time.process_time()
    estimate_figures(gold, predicted, [str(at) for at in range(30)])
    assert time.process_time() - start < 30


def test_ece_by_hand() -> None:
    """Bins [.6, .7): 2 rows, 1 right, mean .65; [.9, 1]: 2 rows, both right, mean .95."""
    found = expected_calibration_error([0.6, 0.7 - 1e-12, 0.9, 1.0], [True, False, True, True])
    # 2/4 |1/2 - .65| + 2/4 |1 - .95|
    assert found == pytest.approx(0.5 * 0.15 + 0.5 * 0.05, abs=1e-10)


def test_brier_by_hand_and_as_scikit_learn_has_it() -> None:
    """Three labels, not halved: (.3^2 + .2^2 + .1^2) and (.5^2 + .5^2 + 1^2), their mean."""
    table = np.array([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0]])
    gold = np.array([0, 2])
    found = estimate_calibration(gold, table, resamples=50)
    assert found["brier"].value == pytest.approx((0.14 + 1.5) / 2, abs=1e-15)
    assert found["brier"].value == pytest.approx(
        brier_score_loss(gold, table, labels=[0, 1, 2]), abs=1e-15
    )
    # Of the top label: (.7 - 1)^2 and (.5 - 0)^2.
    assert found["brier_of_top"].value == pytest.approx((0.09 + 0.25) / 2, abs=1e-15)


def test_brier_of_two_labels_is_halved_in_its_interval_too() -> None:
    """Every row misses by .2: (.2^2 + .2^2) / 2, wherever the rows are drawn from."""
    found = estimate_calibration(np.array([0, 1]), np.array([[0.8, 0.2], [0.2, 0.8]]), resamples=50)
    brier = found["brier"]
    assert (brier.value, brier.low, brier.high) == pytest.approx((0.04,) * 3, abs=1e-15)


def test_rows_without_probabilities_are_left_out_of_calibration_only() -> None:
    table = np.array([[0.8, 0.2], [np.nan, np.nan]])
    found = estimate_calibration(np.array([0, 1]), table, resamples=50)
    assert (found["ece"].n, found["brier"].n) == (1, 1)
    nothing = estimate_calibration(np.array([0]), table[1:], resamples=50)
    assert {name: estimate.value for name, estimate in nothing.items()} == {
        "ece": None,
        "brier": None,
        "brier_of_top": None,
    }


def test_the_interval_of_ece_holds_the_figure() -> None:
    """Resamples of calibrated answers have a larger error than the answers themselves."""
    # Half of the .5 and three quarters of the .75 are right; no draw of 200 misses both by nothing.
    table = np.array([[0.5, 0.5]] * 100 + [[0.75, 0.25]] * 100)
    gold = np.array([0, 1] * 50 + [0, 0, 0, 1] * 25)
    ece = estimate_calibration(gold, table, resamples=200)["ece"]
    assert ece.value == 0.0
    assert ece.low == 0.0
    assert (ece.high or 0.0) > 0.03


@pytest.mark.parametrize(
    "row", [[0.5, 0.6], [-0.1, 1.1], [3.0, -2.0], [math.nan, 1.0], [math.inf, 0.0]]
)
def test_what_is_no_distribution_is_an_error(row: list[float]) -> None:
    with pytest.raises(ScoringError, match=r"1 of 2 rows .* first in row 1"):
        check_probabilities([[0.5, 0.5], row], 2, 2)


def test_half_precision_is_a_distribution() -> None:
    """.3335 + .6665 in half precision misses 1 by 2e-4; the row is divided by its sum."""
    table = np.array([[0.3335, 0.6667]], dtype=np.float16)
    assert check_probabilities(table, 1, 2).sum() == pytest.approx(1.0, abs=1e-15)
