"""Whether a challenger is shown to be slower, of given times."""

from __future__ import annotations

import pytest

from retune.serving.pace import Pace, bound_median


def pace(champion: list[float], challenger: list[float], most: float = 2.0) -> str:
    found = Pace(most)
    for seconds in champion:
        found.add(seconds, challenger=False)
    for seconds in challenger:
        found.add(seconds, challenger=True)
    return found.find_fault()


def test_the_bounds_of_a_median_are_order_statistics() -> None:
    """Of 1 to 100: 50 -/+ 3.29 * 5 = 16.45, so the 33rd and the 68th."""
    low, high, median = bound_median([float(each) for each in range(100, 0, -1)])
    assert (low, high, median) == (33.0, 68.0, 51.0)


def test_it_is_slower_where_the_whole_interval_is_beyond_the_bound() -> None:
    fault = pace([1.0] * 40, [2.1] * 40)
    assert fault == (
        "its median answer takes 2.1 s and the champion's 1 s (of 40 and 40): shown to be over 2 "
        "times as long"
    )
    assert pace([1.0] * 40, [2.0] * 40) == ""
    assert pace([1.0] * 40, [2.1] * 40, most=float("inf")) == ""


def test_a_median_beyond_the_bound_is_not_enough() -> None:
    """Of forty times the 9th to the 32nd bound the median: thirteen quick ones reach there."""
    quick_and_slow = [1.0] * 13 + [9.0] * 27
    assert pace([1.0] * 40, quick_and_slow) == ""
    assert pace([1.0] * 40, [1.0] * 5 + [9.0] * 35) != ""


def test_a_few_long_answers_are_no_slowness() -> None:
    assert pace([1.0] * 40, [1.0] * 35 + [900.0] * 5) == ""


@pytest.mark.parametrize(("champion", "challenger"), [(29, 40), (40, 29)])
def test_fewer_than_thirty_answers_show_nothing(champion: int, challenger: int) -> None:
    assert pace([1.0] * champion, [9.0] * challenger) == ""


def test_what_is_long_ago_counts_no_more() -> None:
    """Two hundred of each: the slow beginning is forgotten, and so is another version."""
    assert pace([1.0] * 200, [9.0] * 100 + [1.0] * 200) == ""
    found = Pace(2.0)
    for _ in range(40):
        found.add(1.0, challenger=False)
        found.add(9.0, challenger=True)
    assert found.find_fault()
    found.clear()
    assert found.find_fault() == ""
