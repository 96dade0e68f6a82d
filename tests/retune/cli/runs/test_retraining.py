"""`retune retrain --at`: which moment a person means."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from retune.cli.runs.retraining import parse_moment
from retune.errors import ConfigError


def test_a_moment_is_in_utc_and_none_is_now() -> None:
    """Without a time zone it is in UTC; 03:00 five hours east of it is 22:00 the day before."""
    assert parse_moment("2026-12-01") == datetime(2026, 12, 1, tzinfo=UTC)
    assert parse_moment("2026-12-01T03:00:00+05:00") == datetime(2026, 11, 30, 22, tzinfo=UTC)
    assert parse_moment(None) is None


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01", "9999-12-31T23:00:00-12:00"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    """The last one is in the year 10000 of UTC."""
    with pytest.raises(ConfigError, match="ISO 8601"):
        parse_moment(text)
