"""Mixing sources by weight: how many rows each gives, and which."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


def share_out(available: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Return how many rows each source gives, so that the shares hold and no row repeats.

    The total T is the largest whole number with T * share at most what each source has; rows that
    do not divide evenly go to the largest remainders, so that each count is within one of its
    share.

    Args:
        available: Rows that each source has; one without rows is left out of the shares.
        weights: One positive weight per source.

    Returns:
        One count per source, at most what it has.
    """
    exact = [Fraction(w) if n else Fraction(0) for n, w in zip(available, weights, strict=True)]
    whole = sum(exact)
    if not whole:
        return [0] * len(available)
    shares = [weight / whole for weight in exact]
    total = min(int(n / s) for n, s in zip(available, shares, strict=True) if s)
    quotas = [total * share for share in shares]
    counts = [int(quota) for quota in quotas]
    # Stable sort: of equal remainders the earlier source gets the row.
    order = sorted(range(len(counts)), key=lambda i: counts[i] - quotas[i])
    for place in order[: total - sum(counts)]:
        counts[place] += 1
    return counts


def choose_rows(draws: NDArray[np.uint64], count: int) -> NDArray[np.bool_]:
    """Choose rows by a number that each has of its own.

    Args:
        draws: Hash of each row's key; of equal ones the earlier row goes first.
        count: How many rows to choose.

    Returns:
        True for the `count` smallest. A row that is added takes at most one place, and rows that
        stay chosen are the same whatever is added, as far as `count` allows.
    """
    chosen = np.zeros(draws.size, dtype=np.bool_)
    chosen[np.argsort(draws, kind="stable")[:count]] = True
    return chosen
