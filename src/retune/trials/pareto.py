"""The Pareto set: the trials that no other one beats on every count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def pareto_set(costs: Mapping[str, Sequence[float]]) -> set[str]:
    """Return the points that no other point dominates.

    One point dominates another when it is no worse on every count and better on at least one, so
    equal points stand or fall together.

    Args:
        costs: By name, one number per count, smaller being better (quality is given negated).

    Returns:
        Names of the points that are left.
    """
    return {
        name
        for name, ours in costs.items()
        if not any(_dominates(theirs, ours) for theirs in costs.values())
    }


def _dominates(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    pairs = list(zip(ours, theirs, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
