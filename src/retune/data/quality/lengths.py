"""How long texts are: mean, percentiles and a histogram."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retune.data.findings import Lengths

_PERCENTILES = {"min": 0, "p5": 5, "p50": 50, "p95": 95, "p99": 99, "max": 100}


_BINS = 20


def measure_lengths(values: NDArray[np.integer], edges: Sequence[int]) -> Lengths:
    """Say how lengths are spread.

    Args:
        values: One length per row, at least one.
        edges: Of the histogram's bins, as `round_edges` or `even_edges` makes them.

    Returns:
        Percentiles are lengths that occur (the nearest below): of 0, 1, 3 and 12 the median is 1.

    Raises:
        ValueError: There is no length.
    """
    if values.size == 0:
        raise ValueError("found no lengths to measure; expected at least one")
    found = np.percentile(values, list(_PERCENTILES.values()), method="lower")
    counts, _ = np.histogram(values, bins=edges)
    return Lengths(
        mean=float(values.mean()),
        percentiles=dict(zip(_PERCENTILES, map(int, found), strict=True)),
        edges=tuple(edges),
        counts=tuple(map(int, counts)),
    )


def round_edges(longest: int) -> list[int]:
    """Return the edges 0, 1, 2, 5, 10 ... up to the first above `longest`.

    They show short and long texts on one picture; the first bin holds empty texts.
    """
    edges, scale = [0, 1], 1
    while True:
        for factor in (2, 5, 10):
            if edges[-1] > longest:
                return edges
            edges.append(factor * scale)
        scale *= 10


def even_edges(values: NDArray[np.integer]) -> list[int]:
    """Return edges of at most 20 bins of one width, from the shortest to above the longest."""
    low, high = int(values.min()), int(values.max())
    return [int(edge) for edge in np.unique(np.linspace(low, high + 1, _BINS + 1).astype(int))]
