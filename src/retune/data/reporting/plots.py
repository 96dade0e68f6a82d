"""What the plots of a data report show; `plots.html.j2` draws them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

_TICKS = 4


class Bar(NamedTuple):
    """One bar of a chart."""

    name: str
    rows: int
    of: int
    """The rows that a full bar would stand for."""
    tone: str = "bar"
    """Name of its colour on the page."""

    @property
    def share(self) -> float:
        """What it shows of what it is measured by, 0 to 1."""
        return self.rows / self.of if self.of else 0.0


def longest_share(bars: Iterable[Bar]) -> float:
    """Return the share that fills the width of a chart, so that its longest bar does."""
    return max((bar.share for bar in bars), default=0.0) or 1.0


def ticks(bins: int) -> list[int]:
    """Return which edges of a histogram are written below it."""
    return sorted({round(tick * bins / _TICKS) for tick in range(_TICKS + 1)})


def place_of(value: float, edges: Sequence[int]) -> float:
    """Return where a length lies among bins: 1.5 in the middle of the second."""
    for at, (low, high) in enumerate(pairwise(edges)):
        if value <= high:
            return at + (max(value - low, 0.0) / (high - low) if high > low else 0.5)
    return float(len(edges) - 1)
