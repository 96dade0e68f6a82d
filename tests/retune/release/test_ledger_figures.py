"""Figures of a ledger's line for people: names and units, nothing left out."""

from __future__ import annotations

import pytest

from retune.registry.records import LedgerEntry
from retune.release.ledger_figures import describe_figures, show_hours


@pytest.mark.parametrize(
    ("hours", "text"), [(None, "–"), (2.5, "2.50 h"), (0.2, "12 min"), (40 / 3600, "40 s")]
)
def test_hours_are_shown_as_people_say_them(hours: float | None, text: str) -> None:
    """0.2 h are 12 min."""
    assert show_hours(hours) == text


def line(**figures: float) -> LedgerEntry:
    """Return a line with figures; a dot is written as two underscores."""
    named = {name.replace("__", "."): value for name, value in figures.items()}
    return LedgerEntry(
        number=1,
        at="2026-01-03T04:00:00+00:00",
        kind="promoted",
        model_name="m",
        actor="gate",
        reason="better",
        figures=named,
    )


def test_the_deciding_figure_stands_with_its_interval_and_gain() -> None:
    """0.55 is 55 %, a gain of 0.25 is 25 points; what is no figure of a decision stays as it is."""
    found = line(
        accuracy=0.55,
        accuracy__low=0.5,
        accuracy__high=0.6,
        accuracy__against_base=0.25,
        training_hours=0.5,
        new_rows=1234.0,
    )

    assert list(describe_figures(found)) == [
        ("Accuracy", "55.0 % [50.0 %, 60.0 %]"),
        ("gain over the base", "+25.0 points"),
        ("training took", "30 min"),
        ("new_rows", "1234"),
    ]


def test_a_line_that_decided_nothing_has_its_numbers() -> None:
    """No interval, so no figure that decided."""
    assert list(describe_figures(line(accuracy=0.5))) == [("accuracy", "0.5")]
