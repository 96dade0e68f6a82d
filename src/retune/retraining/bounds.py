"""What holds a training back although it would be worth it: time since the last one, and cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from retune.recipe.sections import RetrainConfig
from retune.registry.records import LedgerEntry
from retune.retraining.clock import HOUR, read_moment, say_span
from retune.retraining.findings import BoundFinding

WEEK = timedelta(days=7)


def list_trainings(entries: Sequence[LedgerEntry]) -> list[datetime]:
    """Return when challengers were trained, by the ledger, in its order.

    A line counts where the gate decided or the training failed; what a person did with a version
    later is about the same training.

    Args:
        entries: The model's ledger.
    """
    seen: set[int | None] = set()
    found: list[datetime] = []
    for entry in entries:
        if entry.kind == "failed":
            found.append(read_moment(entry.at))
        elif entry.decision and entry.version not in seen:
            seen.add(entry.version)
            found.append(read_moment(entry.at))
    return found


def judge_rhythm(
    config: RetrainConfig, entries: Sequence[LedgerEntry], at: datetime
) -> tuple[BoundFinding, ...]:
    """Answer the bounds `cooldown_hours` and `max_per_week`, those that the recipe sets.

    Args:
        config: The recipe's section.
        entries: The model's ledger.
        at: The time that it is.
    """
    return tuple(_rhythm(config, list_trainings(entries), at))


def _rhythm(
    config: RetrainConfig, trainings: Sequence[datetime], at: datetime
) -> Iterator[BoundFinding]:
    # A late worker's start is planned before a training that is over by now, which counts; one that
    # a start with another time (`at`) wrote years ahead must not hold all starts back until then.
    if config.cooldown_hours and trainings:
        since = min((at - each for each in trainings), key=abs)
        early = abs(since) / HOUR < config.cooldown_hours
        way = "ago" if since >= timedelta() else "after this start"
        yield BoundFinding(
            bound="cooldown_hours",
            holds_back=early,
            reason=f"the nearest training of a challenger was {say_span(abs(since))} {way}, "
            f"{'under' if early else 'at least'} cooldown_hours {config.cooldown_hours:g}",
            figures={"hours_since": since / HOUR},
        )
    if config.max_per_week is not None:
        lately = sum(abs(at - each) < WEEK for each in trainings)
        full = lately >= config.max_per_week
        yield BoundFinding(
            bound="max_per_week",
            holds_back=full,
            reason=f"{lately} challengers were trained in the last seven days, "
            f"{'and' if full else 'of'} max_per_week {config.max_per_week}",
            figures={"trained_this_week": float(lately)},
        )


def judge_cost(
    config: RetrainConfig, seconds: float | None, price_per_hour: float | None, currency: str
) -> tuple[BoundFinding, ...]:
    """Answer the bounds `max_hours` and `max_cost`, those that the recipe sets.

    Args:
        config: The recipe's section.
        seconds: What the training will take; None where it could not be timed.
        price_per_hour: Of the device.
        currency: Of the price.
    """
    hours = None if seconds is None else seconds / HOUR.total_seconds()
    cost = None if hours is None or price_per_hour is None else hours * price_per_hour
    asked = (
        ("max_hours", config.max_hours, hours, "h"),
        ("max_cost", config.max_cost, cost, currency),
    )
    return tuple(
        _cost(name, most, found, unit) for name, most, found, unit in asked if most is not None
    )


def _cost(name: str, most: float, found: float | None, unit: str) -> BoundFinding:
    if found is None:
        reason = f"this training cannot be timed beforehand: remove retrain.{name} to let it start"
        return BoundFinding(bound=name, holds_back=True, reason=reason)
    over = found > most
    reason = (
        f"the training is estimated at {found:.3g} {unit}, "
        f"{'more than' if over else 'within'} {name} {most:g}"
    )
    return BoundFinding(bound=name, holds_back=over, reason=reason, figures={name: found})
