"""Figures as text: what is said of few groups."""

import pytest

from retune.gate.describing import note_groups
from retune.score_records import Metric
from retune.scoring.showing import show_metric, show_rows, warn_of_few_groups


def test_rows_of_few_groups_name_their_number() -> None:
    """Ten groups are enough to say nothing; no group at all is no matter."""
    assert [show_rows(100, groups) for groups in (None, 1, 3, 9, 10)] == [
        *("100", "100 in 1 group", "100 in 3 groups", "100 in 9 groups", "100")
    ]
    metric = Metric(value=0.5, low=0.1, high=0.9, n=100, groups=3)
    assert show_metric("accuracy", metric) == "50.0 % [10.0 %, 90.0 %], n = 100 in 3 groups"


@pytest.mark.parametrize(
    ("groups", "told", "untold"),
    [
        ([None, 10, 134], "", "groups"),
        ([1, None], "speak of that group alone", "too narrow"),
        ([3, 3], "fall into 3 groups (databases, documents)", "3 to 3"),
        ([8, 3, 134], "fall into 3 to 8 groups", "134"),
        ([4], "Fewer than 6 decide nothing.", "alone"),
        ([6], "fewer than 10 are too narrow", "decide nothing"),
    ],
)
def test_a_table_says_what_intervals_over_few_groups_are_worth(
    groups: list[int | None], told: str, untold: str
) -> None:
    found = warn_of_few_groups(groups)
    assert told in found and untold not in found
    assert (found == "") is (told == "")


def test_a_reason_ends_with_what_its_interval_rests_on() -> None:
    assert note_groups(None) == note_groups(10) == ""
    assert note_groups(2).startswith("in 2 groups: intervals over so few are too narrow, and")
    assert note_groups(6) == "in 6 groups: intervals over so few are too narrow"


def test_a_reason_counts_the_groups_that_its_level_needs() -> None:
    """At 0.005 eight groups decide nothing (2^-7 = 0.0078), nor do eleven at 0.0005."""
    assert note_groups(8, 0.005).endswith("under 9 decide nothing; hold out rows of more groups")
    assert note_groups(9, 0.005) == "in 9 groups: intervals over so few are too narrow"
    assert "and under 12 decide nothing" in note_groups(11, 0.0005)
    assert note_groups(12, 0.0005) == ""
