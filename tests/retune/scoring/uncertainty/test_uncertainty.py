"""Intervals and paired comparisons, against hand calculation, scipy and reference figures."""

import csv
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test, t

from retune.errors import ScoringError
from retune.scoring.uncertainty.estimates import (
    Estimate,
    bootstrap_interval,
    estimate_rate,
    estimate_ratio,
    wilson_interval,
)
from retune.scoring.uncertainty.paired import mcnemar_exact, paired_difference
from retune.scoring.uncertainty.resampling import (
    exp_of_ratio,
    interval_of,
    percentile_interval,
    ratio_of_sums,
    resample_sums,
    weigh_units,
)


@pytest.mark.parametrize(
    ("successes", "n"), [(0, 1), (1, 1), (5, 10), (399, 400), (1, 972), (7, 9)]
)
def test_wilson_agrees_with_scipy(successes: int, n: int) -> None:
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    low, high = wilson_interval(successes, n)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_by_hand() -> None:
    # 1 of 2: centre (1/2 + z2/4) / (1 + z2/2) = 1/2, half z * sqrt(1/8 + z2/16) / (1 + z2/2)
    # with z2 = 3.841459: 1.959964 * sqrt(0.365091) / 2.920729 = 0.405470
    low, high = wilson_interval(1, 2)
    assert (low, high) == pytest.approx((0.094530, 0.905470), abs=1e-5)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_a_rate_without_rows_is_an_error(successes: int, n: int) -> None:
    with pytest.raises(ScoringError, match="expected 0 <= successes <= rows"):
        wilson_interval(successes, n)


def test_a_rate_that_could_not_be_scored_is_not_zero() -> None:
    nothing = Estimate(value=None, low=None, high=None, n=0)
    assert estimate_rate([]) == nothing
    assert estimate_rate([None, None]) == nothing
    assert estimate_ratio([], []) == nothing
    assert estimate_ratio([0.0], [0.0]) == nothing


def test_unscored_rows_are_left_out_of_a_rate() -> None:
    assert estimate_rate([True, None, False, None]).value == 0.5
    assert estimate_rate([True, None, False, None]).n == 2


def test_rows_of_one_group_widen_a_rate() -> None:
    # Two databases, one all right and one all wrong: only two independent things were seen.
    outcomes = [True] * 50 + [False] * 50
    alone = estimate_rate(outcomes)
    shared = estimate_rate(outcomes, groups=["a"] * 50 + ["b"] * 50)
    assert (shared.value, shared.n) == (0.5, 100)
    assert (shared.low, shared.high) == (0.0, 1.0)
    assert (alone.low or 0.0) > 0.4


def test_a_clustered_rate_never_has_no_width() -> None:
    perfect = estimate_rate([True] * 20, groups=["a"] * 10 + ["b"] * 10)
    assert (perfect.low, perfect.high) == wilson_interval(20, 20)


def test_perplexity_is_exp_of_summed_nll_over_summed_tokens() -> None:
    # (2 + 6) nats over (1 + 3) tokens: exp(2). The mean of exp(2/1) and exp(6/3) is the same by
    # chance only; with 6 nats over 1 token it would be exp(8/2), not (exp(2) + exp(6)) / 2.
    assert estimate_ratio([2, 6], [1, 3], statistic=exp_of_ratio).value == math.exp(2)
    assert estimate_ratio([2, 6], [1, 1], statistic=exp_of_ratio).value == math.exp(4)


def test_a_bootstrapped_mean_has_the_normal_interval_of_many_rows() -> None:
    values = np.random.default_rng(5).normal(10.0, 2.0, 400)
    low, high = bootstrap_interval(values)
    half = 1.959964 * values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_few_units_have_the_interval_of_student() -> None:
    """Four units: the half width is t(3) times the standard error, sd / sqrt(3), by hand."""
    values = np.array([1.0, 2.0, 4.0, 7.0])
    low, high = bootstrap_interval(values)
    half = t(3).ppf(0.975) * values.std() / math.sqrt(3)
    assert (low, high) == pytest.approx((3.5 - half, 3.5 + half), abs=0.06)
    # What a figure cannot be is in no interval; and a hundred units have the percentiles alone.
    assert interval_of(np.array([0.1, 0.9]), 0.5, 2, (0.0, 1.0)) == (0.0, 1.0)
    drawn = np.linspace(0, 1, 1001)
    assert interval_of(drawn, 0.5, 100) == percentile_interval(drawn)


def test_ten_thousand_resamples_of_four_hundred_rows_are_fast() -> None:
    values = np.random.default_rng(5).normal(size=400)
    start = time.process_time()
    bootstrap_interval(values)
    assert time.process_time() - start < 1.0


@settings(deadline=None, max_examples=20)
@given(
    table=st.lists(
        st.tuples(st.floats(-5, 5), st.floats(1, 9), st.sampled_from(["a", "b", "c", None])),
        min_size=2,
        max_size=15,
    ),
    seed=st.integers(0, 99),
)
def test_the_order_of_rows_changes_nothing(
    table: list[tuple[float, float, str | None]], seed: int
) -> None:
    shuffled = random.Random(seed).sample(table, len(table))
    results = []
    for rows in (table, shuffled):
        numerators, denominators, groups = zip(*rows, strict=True)
        results.append(estimate_ratio(numerators, denominators, groups=groups, resamples=200))
    assert results[0] == results[1]


def test_numbers_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(ScoringError, match="1 of 2 rows with a number that is not finite"):
        estimate_ratio([1.0, math.inf], [1, 1])


def test_as_many_groups_as_rows_are_expected() -> None:
    with pytest.raises(ScoringError, match="2 rows and 1 groups"):
        estimate_rate([True, False], groups=["a"])


@pytest.mark.parametrize(
    ("b", "c"), [(0, 0), (1, 0), (5, 0), (67, 55), (3, 3), (0, 12), (900, 800)]
)
def test_mcnemar_is_the_two_sided_binomial_test(b: int, c: int) -> None:
    expected = binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_by_hand() -> None:
    # Five disagreements, all one way: 2 * (1/2)^5 = 1/16.
    assert mcnemar_exact(5, 0) == 1 / 16
    assert mcnemar_exact(0, 0) == 1.0


class TestReference:
    """The figures of cls_reference."""

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
    def right(answers: list[dict[str, str]], model: str) -> list[int]:
        return [int(row[model] == row["gold"]) for row in answers]

    def test_mcnemar(self, reference: dict[str, Any], answers: list[dict[str, str]]) -> None:
        difference = paired_difference(
            self.right(answers, "champion"),
            self.right(answers, "challenger"),
            direction="higher_is_better",
        )
        paired = reference["paired"]
        assert difference.p_value == pytest.approx(paired["mcnemar_exact_p"], abs=1e-12)
        lost, won = (
            paired[f"champion_{one}_challenger_{other}"]
            for one, other in (("right", "wrong"), ("wrong", "right"))
        )
        expected = (lost - won) / reference["n"]
        assert difference.difference == pytest.approx(expected, abs=1e-15)
        assert difference.verdict == "undecided"

    def test_bootstrap_of_accuracy(
        self, reference: dict[str, Any], answers: list[dict[str, str]]
    ) -> None:
        # The recipe: default_rng(20240601).integers(0, n, n), 2000 draws, percentiles.
        table = [(right, 1) for right in self.right(answers, "champion")]
        drawn = ratio_of_sums(resample_sums(table, resamples=2000))
        expected = reference["bootstrap"]["champion_accuracy"]
        assert percentile_interval(drawn) == pytest.approx(expected, abs=1e-12)

    def test_bootstrap_of_macro_f1(
        self, reference: dict[str, Any], answers: list[dict[str, str]]
    ) -> None:
        drawn = {
            model: macro_f1(resample_sums(confusions(answers, model), resamples=2000))
            for model in ("champion", "challenger")
        }
        expected = reference["bootstrap"]
        difference = drawn["challenger"] - drawn["champion"]
        for found, name in (
            (drawn["champion"], "champion_macro_f1"),
            (drawn["challenger"], "challenger_macro_f1"),
        ):
            assert percentile_interval(found) == pytest.approx(expected[name], abs=1e-12)
        # The reference states champion minus challenger.
        low, high = expected["paired_difference_macro_f1"]
        assert percentile_interval(-difference) == pytest.approx((low, high), abs=1e-12)

    def test_paired_difference_of_macro_f1(
        self, reference: dict[str, Any], answers: list[dict[str, str]]
    ) -> None:
        found = paired_difference(
            confusions(answers, "champion"),
            confusions(answers, "challenger"),
            direction="higher_is_better",
            statistic=macro_f1,
        )
        expected = reference["champion"]["macro_f1"] - reference["challenger"]["macro_f1"]
        assert found.difference == pytest.approx(expected, abs=1e-12)
        # Other draws than the reference's (rows are sorted first): the same up to chance.
        low, high = reference["bootstrap"]["paired_difference_macro_f1"]
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.08 * (high - low))
        assert found.verdict == "undecided"


LABELS = ("negative", "neutral", "positive")


def confusions(answers: list[dict[str, str]], model: str) -> np.ndarray:
    """One row per answer with a one in its (gold, predicted) cell; shape (rows, 9)."""
    table = np.zeros((len(answers), 9))
    for at, row in enumerate(answers):
        table[at, 3 * LABELS.index(row["gold"]) + LABELS.index(row[model])] = 1
    return table


def macro_f1(sums: np.ndarray) -> np.ndarray:
    matrix = sums.reshape(*sums.shape[:-1], 3, 3)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    return np.asarray((2 * hits / (matrix.sum(-1) + matrix.sum(-2))).mean(-1))


class TestPairedDifference:
    def test_direction_decides_what_is_better(self) -> None:
        higher, lower = [1] * 30 + [0] * 10, [0] * 40
        assert verdict(higher, lower, "higher_is_better") == "better"
        assert verdict(higher, lower, "lower_is_better") == "worse"
        assert verdict(lower, higher, "higher_is_better") == "worse"

    def test_the_same_answers_are_undecided(self) -> None:
        found = paired_difference([1, 0, 1], [1, 0, 1], direction="higher_is_better")
        assert (found.difference, found.p_value, found.verdict) == (0.0, 1.0, "undecided")
        # Three rows without disagreement do not show that there is none.
        assert (found.low or 0.0) < -0.1
        assert (found.high or 0.0) > 0.1

    def test_rows_without_a_score_on_either_side_are_left_out(self) -> None:
        found = paired_difference([1, None, 1, 0], [0, 1, None, 0], direction="higher_is_better")
        assert (found.n, found.difference) == (2, 0.5)

    def test_no_common_row_is_undecided_and_not_zero(self) -> None:
        found = paired_difference([None, 1], [1, None], direction="higher_is_better")
        assert (found.difference, found.p_value, found.n) == (None, None, 0)
        assert found.verdict == "undecided"

    def test_a_lower_perplexity_on_every_row_is_better(self) -> None:
        tokens = np.arange(1, 41)
        base = np.column_stack([2.0 * tokens, tokens])
        tuned = np.column_stack([1.5 * tokens, tokens])
        found = paired_difference(tuned, base, direction="lower_is_better", statistic=exp_of_ratio)
        assert found.difference == pytest.approx(math.exp(1.5) - math.exp(2.0))
        assert found.verdict == "better"

    def test_few_groups_undo_what_many_rows_seem_to_show(self) -> None:
        # Better on one database of two, equal on the other: rows convince, databases do not.
        challenger, baseline = [1] * 20 + [0] * 20, [0] * 40
        groups = ["a"] * 20 + ["b"] * 20
        assert verdict(challenger, baseline, "higher_is_better") == "better"
        found = paired_difference(challenger, baseline, direction="higher_is_better", groups=groups)
        assert found.verdict == "undecided"

    @pytest.mark.parametrize(("count", "p_value"), [(2, 0.5), (3, 0.25), (5, 0.0625), (6, 0.03125)])
    def test_outcomes_of_d_groups_never_show_less_than_all_their_exchanges(
        self, count: int, p_value: float
    ) -> None:
        """Fifty rows a group, ten of them won and none lost: 2^d exchanges, two as far: 2^(1-d)."""
        challenger = ([1] * 10 + [0] * 40) * count
        groups = [name for name in "abcdef"[:count] for _ in range(50)]
        found = paired_difference(
            challenger, [0] * 50 * count, direction="higher_is_better", groups=groups
        )
        assert found.p_value == p_value
        assert found.verdict == ("better" if count == 6 else "undecided")
        assert found.groups == count

    def test_groups_are_exchanged_as_scipy_exchanges_pairs(self) -> None:
        """Of groups of one size the difference is the mean of the groups' differences."""
        generator = np.random.default_rng(11)
        sides = generator.integers(0, 2, (2, 9, 4)).astype(float)
        sides[0, :6] = np.maximum(sides[0, :6], sides[1, :6])
        found = paired_difference(
            sides[0].ravel().tolist(),
            sides[1].ravel().tolist(),
            direction="higher_is_better",
            groups=[str(at) for at in range(9) for _ in range(4)],
        )
        expected = permutation_test(
            (sides[0].mean(axis=1), sides[1].mean(axis=1)),
            lambda one, other: np.mean(one - other),
            permutation_type="samples",
            n_resamples=10_000,
        )
        assert found.p_value == pytest.approx(expected.pvalue, abs=1e-12)
        assert 0.01 < expected.pvalue < 0.9

    def test_a_small_level_can_be_reached_where_exchanges_are_drawn(self) -> None:
        """All of 30 rows lost 0.5 nats: of N draws p is 1 / (N + 1), so that N is 10 / level."""
        baseline = np.linspace(4, 6, 30)
        for alpha in (0.05, 4e-5):
            found = paired_difference(
                baseline - 0.5, baseline, direction="lower_is_better", alpha=alpha, resamples=100
            )
            assert found.p_value is not None and found.p_value < alpha
            assert found.verdict == "better"

    def test_rows_of_which_one_group_was_scored_speak_of_that_group(self) -> None:
        """The other group's rows are unscored: what is left has a width, as rows of one group."""
        found = paired_difference(
            [1, 0, 1, 0, None],
            [0, 0, 1, 1, 1],
            direction="higher_is_better",
            groups=["a", "a", "a", "a", "b"],
        )
        assert found.groups == 1
        assert found.low is not None and found.high is not None and found.low < found.high

    def test_one_group_with_nearly_all_rows_is_little_more_than_one(self) -> None:
        """Of eight groups, seven hold a row each: Kish's count is 207^2 / (200^2 + 7) = 1.07."""
        chance = random.Random(8)
        challenger = [chance.random() < 0.5 for _ in range(207)]
        baseline = [chance.random() < 0.5 for _ in range(207)]
        groups = ["big"] * 200 + [f"small {at}" for at in range(7)]
        few = paired_difference(
            challenger, baseline, direction="higher_is_better", groups=groups, resamples=500
        )
        even = paired_difference(
            challenger,
            baseline,
            direction="higher_is_better",
            groups=[str(at % 8) for at in range(207)],
            resamples=500,
        )
        assert weigh_units(207, groups) == pytest.approx(1.0714, abs=1e-3)
        assert (few.high or 0) - (few.low or 0) > 2 * ((even.high or 0) - (even.low or 0))

    def test_swapping_the_models_mirrors_the_result(self) -> None:
        chance = random.Random(4)
        one = [chance.randint(0, 1) for _ in range(60)]
        other = [chance.randint(0, 1) for _ in range(60)]
        there = paired_difference(one, other, direction="higher_is_better")
        back = paired_difference(other, one, direction="higher_is_better")
        assert there.difference == -(back.difference or 0.0)
        assert there.p_value == back.p_value

    def test_different_rows_are_an_error(self) -> None:
        with pytest.raises(ScoringError, match="the same rows on both sides"):
            paired_difference([1, 0], [1], direction="higher_is_better")


def verdict(challenger: list[int], baseline: list[int], direction: Any) -> str:
    return paired_difference(challenger, baseline, direction=direction).verdict


def test_one_row_is_no_certainty() -> None:
    """One row has no interval, and p cannot be below 2 / 2^1; three rows: 2 / 2^3."""
    alone = estimate_ratio([3.0], [2.0], statistic=exp_of_ratio)
    assert (alone.value, alone.low, alone.high, alone.n) == (math.exp(1.5), None, None, 1)
    for rows, p_value in ((1, 1.0), (3, 0.25)):
        found = paired_difference(
            [(10.0, 5.0)] * rows,
            [(12.0, 5.0)] * rows,
            direction="lower_is_better",
            statistic=exp_of_ratio,
        )
        assert (found.p_value, found.verdict) == (p_value, "undecided")


def test_rows_that_all_share_one_group_are_drawn_as_rows() -> None:
    """Drawing the one group again and again would have no width."""
    nats, tokens = [3.0, 4.0, 9.0, 2.0], [2.0] * 4
    shared = estimate_ratio(nats, tokens, groups=["db"] * 4, statistic=exp_of_ratio)
    alone = estimate_ratio(nats, tokens, statistic=exp_of_ratio)
    assert shared == alone.model_copy(update={"groups": 1})
    assert shared.low is not None and shared.high is not None and shared.low < shared.high


@pytest.mark.parametrize("rows", [[], [(0.0, 0.0)] * 3])
def test_nothing_to_compare_is_undecided_and_not_zero(rows: list[tuple[float, float]]) -> None:
    found = paired_difference(rows, rows, direction="lower_is_better", statistic=exp_of_ratio)
    assert (found.difference, found.n, found.verdict) == (None, 0, "undecided")
