"""Power: the smallest gain that rows can show, against the formula and against the gate itself."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from retune.errors import DataError
from retune.gate.power import DetectableGain, find_detectable_gain
from retune.gate.requirements import describe_power, refuse_weak_test
from retune.recipe.sections import GateConfig
from retune.score_records import Comparison, Metric
from retune.scoring.uncertainty.paired import paired_difference


def gain_of(metric: str, groups: list[str | None], alpha: float = 0.05, **more: Any) -> float:
    found = find_detectable_gain(metric, groups, alpha, **more).gain
    assert found is not None
    return found


def test_a_rate_over_single_rows_follows_the_formula_for_mcnemars_test() -> None:
    """Connor: gain * sqrt(n) = z_a * sqrt(d) + z_b * sqrt(d - gain^2), with d = 0.5, n = 10,000.

    With so many rows Student's quantile is the normal one: 2.8 * sqrt(0.5) / 100 = 0.0198.
    """
    gain = gain_of("sql_execution_match", [None] * 10_000)
    z = NormalDist().inv_cdf
    spread = z(0.975) * math.sqrt(0.5) + z(0.8) * math.sqrt(0.5 - gain**2)
    assert gain * 100 == pytest.approx(spread, rel=1e-3)
    assert gain == pytest.approx(0.0198, abs=1e-4)


def test_rows_of_groups_show_less() -> None:
    """100 groups of 5: the design effect is 1 + (2500 / 500 - 1) * 0.1 = 1.4, as 357 rows."""
    grouped = gain_of("accuracy", [f"g{at // 5}" for at in range(500)])
    assert grouped == pytest.approx(gain_of("accuracy", [None] * 357), rel=0.01)
    assert grouped > gain_of("accuracy", [None] * 500)


def test_a_smaller_level_needs_a_larger_gain() -> None:
    assert gain_of("accuracy", [None] * 400, 0.0025) > gain_of("accuracy", [None] * 400)


def test_so_few_groups_that_no_test_decides_show_nothing() -> None:
    """Of five groups no test is under 0.05, and of nine none under 0.0025 (2^-8 = 0.0039)."""
    five = [f"g{at % 5}" for at in range(1000)]
    nine = [f"g{at % 9}" for at in range(1000)]
    assert find_detectable_gain("accuracy", five, 0.05).gain is None
    assert find_detectable_gain("accuracy", nine, 0.05).gain is not None
    found = find_detectable_gain("accuracy", nine, 0.0025)
    assert found.gain is None and found.known
    assert describe_power(found).startswith("no gain of Accuracy can be shown at level 0.0025")


def test_an_earlier_decision_says_how_far_models_differ() -> None:
    """Half its interval is 0.2, of 1.96 standard errors; (1.96 + 0.84) of them are 0.286."""
    earlier = Comparison(
        metric="perplexity", against="champion", difference=-1.0, low=-1.2, high=-0.8,
        p_value=0.001, n=100_000, verdict="better",
    )  # fmt: skip
    rows: list[str | None] = [None] * 100_000
    assert gain_of("perplexity", rows, earlier=earlier) == pytest.approx(0.286, abs=1e-3)
    unknown = find_detectable_gain("perplexity", rows, 0.05)
    assert unknown.gain is None and not unknown.known
    assert "unknown until the base is scored on these 100,000 rows" in describe_power(unknown)


def test_losses_of_the_base_say_how_far_models_may_differ() -> None:
    """Half its interval is 0.392, of 1.96 standard errors of 0.2; two models make it 0.283.

    Shown in four of five tries at level 0.05 are (1.96 + 0.84) of these: 0.792.
    """
    base = Metric(value=9.0, low=8.608, high=9.392, n=100_000)
    rows: list[str | None] = [None] * 100_000
    found = find_detectable_gain("perplexity", rows, 0.05, base=base)
    assert found.known and found.gain == pytest.approx(0.792, abs=1e-3)
    assert describe_power(found).startswith("a gain of 0.792 of Perplexity is shown")
    # A decision on the rows knows more.
    earlier = Comparison(
        metric="perplexity", against="base", difference=-1.0, low=-1.2, high=-0.8,
        p_value=0.001, n=100_000, verdict="better",
    )  # fmt: skip
    assert gain_of("perplexity", rows, earlier=earlier) < found.gain


@pytest.mark.parametrize(("rows", "alpha"), [(200, 0.05), (400, 0.0025)])
def test_the_gate_shows_that_gain_in_four_of_five_tries(rows: int, alpha: float) -> None:
    """Rows are drawn so that half of them differ, by the gain that is said to be detectable.

    Of 200 tries 80 % +- 3 * sqrt(0.8 * 0.2 / 200) = 8.5 points are expected; exact tests and
    intervals that are widened for few rows take a little of it.
    """
    gain = gain_of("accuracy", [None] * rows, alpha)
    generator = np.random.default_rng(11)
    shown = 0
    for _ in range(200):
        drawn = generator.random(rows)
        won, lost = drawn < 0.25 + gain / 2, drawn > 0.75 + gain / 2
        found = paired_difference(
            np.where(lost, 0.0, 1.0),
            np.where(won, 0.0, 1.0),
            direction="higher_is_better",
            resamples=200,
            alpha=alpha,
        )
        shown += found.verdict == "better"
    assert 0.65 <= shown / 200 <= 0.885


def test_a_test_set_that_is_too_weak_is_refused_with_the_rows_it_takes() -> None:
    """A tenth as large a gain takes a hundred times the rows."""
    found = DetectableGain(
        metric="accuracy", alpha=0.05, rows=100, groups=None, gain=0.2, basis="100 rows"
    )
    refuse_weak_test(GateConfig(detectable_gain=0.2), found)
    refuse_weak_test(GateConfig(), found)
    with pytest.raises(DataError, match=r"a gain of 0\.2 of Accuracy.*about 10,000 rows"):
        refuse_weak_test(GateConfig(detectable_gain=0.02), found)
    nothing = found.model_copy(update={"gain": None})
    with pytest.raises(DataError, match=r"no gain at all.*more rows, of more groups"):
        refuse_weak_test(GateConfig(detectable_gain=0.5), nothing)
    # Nothing is known of perplexity before the base was scored: that is said, and is no refusal.
    refuse_weak_test(GateConfig(detectable_gain=0.5), nothing.model_copy(update={"known": False}))
