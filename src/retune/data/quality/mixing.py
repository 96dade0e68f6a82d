"""Mixing sources by weight: how many rows each gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from retune.data.shares import share_out


def count_by_weight(available: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Return how many rows each source gives, so that the shares hold and no row repeats.

    The total T is the largest whole number with T * share at most what each source has; it is
    divided by the largest remainder, so that each count is within one of its share. Of 90 and 100
    rows in the proportion 3 to 1, T is 120: 90 rows and 30.

    Args:
        available: Rows that each source has; one without rows is left out of the shares.
        weights: One positive weight per source.

    Returns:
        One count per source, at most what it has.
    """
    exact = [Fraction(w) if n else Fraction(0) for n, w in zip(available, weights, strict=True)]
    scale = math.lcm(*(weight.denominator for weight in exact))
    wanted = [int(weight * scale) for weight in exact]
    whole = sum(wanted)
    total = min((n * whole // w for n, w in zip(available, wanted, strict=True) if w), default=0)
    return share_out(total, wanted, available)
