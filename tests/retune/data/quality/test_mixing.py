"""Mixing by weights."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retune.data.columns.in_memory import ColumnsInMemory
from retune.data.quality.mixing import count_by_weight

SOURCES = st.lists(
    st.tuples(st.integers(1, 5000), st.floats(0.01, 100, allow_nan=False)), min_size=1, max_size=6
)


@given(SOURCES)
@settings(max_examples=300, deadline=None)
def test_shares_hold_within_one_row(sources: list[tuple[int, float]]) -> None:
    """No source gives more than it has, nor a row more or less than its share."""
    available, weights = zip(*sources, strict=True)
    counts = count_by_weight(available, weights)
    total, whole = sum(counts), sum(weights)
    assert all(count <= have for count, have in zip(counts, available, strict=True))
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - total * weight / whole) < 1 + 1e-6


@given(SOURCES)
@settings(max_examples=300, deadline=None)
def test_total_is_as_large_as_can_be(sources: list[tuple[int, float]]) -> None:
    """One more row in all would ask more of some source than it has."""
    available, weights = zip(*sources, strict=True)
    total, whole = sum(count_by_weight(available, weights)) + 1, sum(weights)
    over = [total * w / whole - have for have, w in zip(available, weights, strict=True)]
    assert max(over) > -1e-6


def test_mixing_by_hand() -> None:
    """3 to 1 over 90 and 100 rows: 90 are three shares, so 30 of the other; 120 in all."""
    assert count_by_weight([90, 100], [3, 1]) == [90, 30]


def test_empty_source_takes_no_share() -> None:
    """A source that was dropped wholly does not empty the others."""
    assert count_by_weight([0, 10], [1, 1]) == [0, 10]


@given(st.lists(st.integers(0, 2**64 - 1), unique=True, min_size=1), st.data())
@settings(deadline=None)
def test_added_rows_push_out_no_more_than_they_take(draws: list[int], data: st.DataObject) -> None:
    """Of the rows chosen before, only as many go as rows come."""
    added = data.draw(st.lists(st.integers(0, 2**64 - 1), max_size=5))
    count = data.draw(st.integers(0, len(draws)))

    def choose(of: list[int]) -> np.ndarray:
        one_class = np.zeros(len(of), np.int64)
        return ColumnsInMemory().choose_lowest(np.array(of, np.uint64), one_class, [count])

    before, after = choose(draws), choose([*draws, *added])
    assert (before & ~after[: len(draws)]).sum() <= after[len(draws) :].sum()
    assert not (after[: len(draws)] & ~before).any()
