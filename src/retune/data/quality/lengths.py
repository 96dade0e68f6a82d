"""How long texts are: mean, percentiles and a histogram with round edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retune.data.findings import Lengths

_PERCENTILES = {"min": 0, "p5": 5, "p50": 50, "p95": 95, "p99": 99, "max": 100}


def measure_lengths(values: NDArray[np.integer]) -> Lengths:
    """Say how lengths are spread.

    Args:
        values: One length per row, at least one.

    Returns:
        Percentiles are lengths that occur (the nearest below). The edges 0, 1, 2, 5, 10, 20, 50 ...
        show short and long texts on one picture; the first bin holds empty texts.

    Raises:
        ValueError: There is no length.
    """
    if values.size == 0:
        raise ValueError("found no lengths to measure; expected at least one")
    found = np.percentile(values, list(_PERCENTILES.values()), method="lower")
    edges = round_edges(int(values.max()))
    counts, _ = np.histogram(values, bins=edges)
    return Lengths(
        mean=float(values.mean()),
        percentiles=dict(zip(_PERCENTILES, map(int, found), strict=True)),
        edges=tuple(edges),
        counts=tuple(map(int, counts)),
    )


def round_edges(longest: int) -> list[int]:
    """Return the edges 0, 1, 2, 5, 10 ... up to the first above `longest`."""
    edges, scale = [0, 1], 1
    while True:
        for factor in (2, 5, 10):
            if edges[-1] > longest:
                return edges
            edges.append(factor * scale)
        scale *= 10
