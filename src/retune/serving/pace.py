"""Whether a challenger is shown to be slower than its champion: medians of their last answers.

Which requests are the challenger's share is drawn by their ids, so that both are asked alike, and
the time of a whole answer is what a client waits. A median is not moved by a few long answers. Its
interval is that of order statistics, which asks nothing of how times are distributed: of ``n``
answers the true median lies between those of rank ``n / 2 -/+ z * sqrt(n) / 2``. Shown is what
holds for the fast end of the challenger's interval against the slow end of the champion's; ``z`` is
large, because it is looked at after each answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import ceil, floor, sqrt

FEWEST, REMEMBERED = 30, 200
"""Answers of each that are compared."""
_Z = 3.29
"""Of 99.9 %, on both sides."""


class Pace:
    """Times of the last answers of champion and challenger.

    Args:
        most: How many times as long as the champion's median answer the challenger's may take.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._champion: deque[float] = deque(maxlen=REMEMBERED)
        self._challenger: deque[float] = deque(maxlen=REMEMBERED)

    def clear(self) -> None:
        """Begin anew: one of the two is another version."""
        self._champion.clear()
        self._challenger.clear()

    def add(self, seconds: float, *, challenger: bool) -> None:
        """Remember how long an answer took, from its order to its end."""
        (self._challenger if challenger else self._champion).append(seconds)

    def find_fault(self) -> str:
        """Say how much slower the challenger is; empty where that is not shown."""
        if min(len(self._champion), len(self._challenger)) < FEWEST:
            return ""
        _, slow, champion = bound_median(self._champion)
        fast, _, challenger = bound_median(self._challenger)
        if fast <= self._most * slow:
            return ""
        return (
            f"its median answer takes {challenger:.3g} s and the champion's {champion:.3g} s (of "
            f"{len(self._challenger)} and {len(self._champion)}): shown to be over "
            f"{self._most:g} times as long"
        )


def bound_median(times: Sequence[float] | deque[float]) -> tuple[float, float, float]:
    """Return bounds of the true median, and the median itself.

    Args:
        times: `FEWEST` at least.

    Returns:
        Low, high, and the middle one (of two, the higher).
    """
    ordered = sorted(times)
    count = len(ordered)
    reach = _Z * sqrt(count) / 2
    low, high = floor(count / 2 - reach), ceil(count / 2 + reach)
    return ordered[max(0, low - 1)], ordered[min(count - 1, high)], ordered[count // 2]
