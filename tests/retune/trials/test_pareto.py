"""The Pareto set, by hand and against the definition."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from retune.trials.pareto import pareto_set


def test_a_point_that_another_beats_everywhere_is_out() -> None:
    """Cost pairs (error, memory): a (1, 5) and c (3, 2) trade, b (2, 6) loses to a on both."""
    assert pareto_set({"a": (1, 5), "b": (2, 6), "c": (3, 2)}) == {"a", "c"}


def test_a_tie_on_one_count_is_decided_by_the_other() -> None:
    """A and b have the same error; b needs more memory and gains nothing by it."""
    assert pareto_set({"a": (1, 5), "b": (1, 6)}) == {"a"}


def test_equal_points_stay_together() -> None:
    """Neither of two equal points is better on any count."""
    assert pareto_set({"a": (1, 5), "b": (1, 5)}) == {"a", "b"}


def test_nothing_gives_nothing_and_one_is_always_in() -> None:
    """No points, no set; a single point has nobody to beat it."""
    assert pareto_set({}) == set()
    assert pareto_set({"a": (3.0,)}) == {"a"}


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12))
def test_it_is_what_the_definition_says(points: list[tuple[int, int, int]]) -> None:
    """Brute force over all pairs: out exactly when some point is <= everywhere and differs."""
    costs = {str(place): point for place, point in enumerate(points)}
    beaten = {
        name
        for (name, ours), theirs in itertools.product(costs.items(), costs.values())
        if theirs != ours and max(b - a for a, b in zip(ours, theirs, strict=True)) <= 0
    }
    assert pareto_set(costs) == set(costs) - beaten
