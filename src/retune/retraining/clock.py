"""The time that a retraining is taken to be: Prefect's, a person's, or a test's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from retune.errors import ArtifactError

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def as_utc(moment: datetime) -> datetime:
    """Return a moment in UTC to the second; one without a time zone is taken to be in UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    # Prefect's moments are of a class whose differences do not divide by those of Python's own.
    return datetime.fromtimestamp(int(aware.timestamp()), UTC)


def write_moment(moment: datetime) -> str:
    """Return a moment as ledgers and manifests write it: UTC, ISO 8601 with seconds."""
    return as_utc(moment).isoformat()


def read_moment(text: str) -> datetime:
    """Return the moment that a ledger or a manifest names.

    Args:
        text: ISO 8601.

    Raises:
        ArtifactError: It is none.
    """
    try:
        return as_utc(datetime.fromisoformat(text))
    except ValueError as error:
        raise ArtifactError(
            f"{text!r} in the model's ledger or manifest is no date and time of ISO 8601, such as "
            "2026-11-26T03:00:00+00:00. Restore the file, or remove it where MLflow has it too."
        ) from error


def say_span(span: timedelta) -> str:
    """Say how long a span is, in days from two days on, else in hours.

    >>> say_span(timedelta(hours=30))
    '30.0 hours'
    """
    return f"{span / DAY:.1f} days" if span >= 2 * DAY else f"{span / HOUR:.1f} hours"
