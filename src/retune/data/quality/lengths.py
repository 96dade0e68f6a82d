"""How long texts are: mean, percentiles and a histogram."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from retune.data.findings import Lengths

_PERCENTILES = {"min": 0, "p5": 5, "p50": 50, "p95": 95, "p99": 99, "max": 100}


_BINS = 20


def count_lengths(pieces: Iterable[NDArray[np.integer]]) -> Counter[int]:
    """Count how often each length occurs, over pieces of all lengths."""
    found: Counter[int] = Counter()
    for piece in pieces:
        values, counts = np.unique(piece, return_counts=True)
        found.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return found


def measure_counts(lengths: Mapping[int, int], edges: Sequence[int]) -> Lengths:
    """Say how lengths are spread.

    Args:
        lengths: How often each occurs, as `count_lengths` counts them; at least one.
        edges: Of the histogram's bins, as `round_edges` or `even_edges` makes them.

    Returns:
        Percentiles are lengths that occur (the nearest below): of 0, 1, 3 and 12 the median is 1.

    Raises:
        ValueError: There is no length.
    """
    if not lengths:
        raise ValueError("found no lengths to measure; expected at least one")
    values = np.array(sorted(lengths), np.int64)
    counts = np.array([lengths[value] for value in values.tolist()], np.int64)
    ends = np.cumsum(counts)
    shares = np.array(list(_PERCENTILES.values())) / 100
    # The place of a percentile in all lengths, sorted, as numpy's method "lower" has it.
    places = np.floor(shares * (ends[-1] - 1)).astype(np.int64)
    found = values[np.searchsorted(ends, places, side="right")]
    binned, _ = np.histogram(values, bins=edges, weights=counts)
    return Lengths(
        mean=float(int(values @ counts) / int(ends[-1])),
        percentiles=dict(zip(_PERCENTILES, map(int, found), strict=True)),
        edges=tuple(edges),
        counts=tuple(map(int, binned)),
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
    """Return edges of at most 20 bins of one width, from the shortest to above the longest.

    Args:
        values: The lengths, each once at least.
    """
    low, high = int(values.min()), int(values.max())
    return [int(edge) for edge in np.unique(np.linspace(low, high + 1, _BINS + 1).astype(int))]
