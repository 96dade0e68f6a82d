"""The population stability index, and what chance gives of it.

Formula. Of two samples counted in the same bins, ``PSI = sum over bins of (q - p) ln(q / p)``: p is
a bin's share of the training rows and q its share of the served requests. It is the symmetric
Kullback-Leibler divergence in nats: 0 where both are alike, never below, higher is further apart.
Half a count is added to each bin of each sample (Krichevsky and Trofimov), so that an empty bin has
a share and a single request in a bin that no training row has is worth little:
``p = (count + 1/2) / (all counts + bins / 2)``.

Bins. Of numbers: tenths of the training rows, by their quantiles; a value that several quantiles
fall on is a bin by itself, so that what is below and above it is told apart. Of tokens:
the most frequent ones of the training rows, and all others as one; a token counts once a prompt, so
that a long prompt does not speak for ten. Of classes: each class of the training rows, and all
others as one.

Chance. Two samples of one population differ too, the more the fewer they are: the index alone says
nothing. Its null is drawn: training rows are drawn with replacement twice, once as many as there
are and once as many as there are requests, and the index of the two is taken, `DRAWS` times. Rows
of one group (a database, a document) are drawn together, since requests too come in such groups.
What chance gives is the quantile that a share `level` of the draws is above. Where several indices
are asked at once, `level` is 5 % divided by their number (Bonferroni), so that one of them or more
is above its own by chance in at most 5 %, however they hang together.

Agrees with ``scipy.stats.entropy(p, q) + scipy.stats.entropy(q, p)`` of the smoothed shares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retune.scoring.uncertainty.resampling import Floats, Statistic, sum_by_group

DRAWS = 2_000
BINS = 10
TOKENS = 100
"""Most frequent tokens that are a bin each."""
ERROR = 0.05
"""Chance that any of the indices that are asked at once is above what chance gives."""

_ADDED = 0.5
_DRAWN_AT_ONCE = 2_000_000  # numbers held in memory at a time, 16 MB

Places = NDArray[np.int64]


def stability_index(expected: ArrayLike, actual: ArrayLike) -> Floats:
    """Return the population stability index of counts.

    Args:
        expected: Counts of the training rows by bin, shape ``(..., bins)``.
        actual: Counts of the requests in the same bins, shape ``(..., bins)``.

    Returns:
        In nats, shape ``(...)``.

    Example:
        Shares of 1/2 and 1/2 against 1/4 and 3/4, with counts so large that half of one is nothing:
        (1/4 - 1/2) ln(1/2) + (3/4 - 1/2) ln(3/2) = 0.2747.

        >>> round(float(stability_index([5e9, 5e9], [2.5e9, 7.5e9])), 4)
        0.2747
    """
    p, q = share_of(expected), share_of(actual)
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1), dtype=np.float64)


def share_of(counts: ArrayLike) -> Floats:
    """Return the shares of counts by bin, half a count added to each.

    Args:
        counts: Shape ``(..., bins)``.

    Returns:
        Shares above 0 that add up to 1, of the same shape.
    """
    added = np.asarray(counts, dtype=np.float64) + _ADDED
    return np.asarray(added / added.sum(axis=-1, keepdims=True), dtype=np.float64)


def find_edges(values: Sequence[float]) -> Floats:
    """Return where the bins of a number part, from its values in the training rows.

    Args:
        values: At least one.

    Returns:
        Edges, ascending; each is the largest value of its bin, and the last bin has none.
    """
    found = np.asarray(values, dtype=np.float64)
    inner = np.quantile(found, np.arange(1, BINS) / BINS, method="inverted_cdf")
    edges, times = np.unique(inner, return_counts=True)
    heavy = edges[times > 1]
    return np.unique(np.concatenate([edges, np.nextafter(heavy, -np.inf)]))


def place_numbers(values: Sequence[float], edges: Floats) -> Places:
    """Return the bin of each number, from 0 to the number of edges."""
    return np.asarray(np.searchsorted(edges, np.asarray(values), side="left"), dtype=np.int64)


def count_places(places: Places, bins: int) -> Floats:
    """Return one row of counts, of which one is 1, for each place; shape ``(rows, bins)``."""
    return np.asarray(places[:, None] == np.arange(bins), dtype=np.float64)


def choose_tokens(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Return the tokens that stand in the most prompts, the most frequent one first."""
    found: Counter[int] = Counter()
    for ids in prompts:
        found.update(set(ids))
    # Of equally frequent ones the lowest first, in whatever order the prompts come.
    return sorted(found, key=lambda token: (-found[token], token))[:TOKENS]


def count_tokens(prompts: Sequence[Sequence[int]], tokens: Sequence[int]) -> Floats:
    """Count which tokens each prompt has.

    Args:
        prompts: Token ids.
        tokens: Those that are a bin each.

    Returns:
        Shape ``(prompts, tokens + 1)``: 1 for each token that it has; last, how many others.
    """
    places = {token: at for at, token in enumerate(tokens)}
    table = np.zeros((len(prompts), len(tokens) + 1))
    for row, ids in zip(table, prompts, strict=True):
        distinct = set(ids)
        known = [places[token] for token in distinct if token in places]
        row[known] = 1.0
        row[-1] = len(distinct) - len(known)
    return table


def chance_of_index(
    table: Floats, groups: Sequence[str | None], requests: int, level: float, seed: int
) -> float:
    """Return how large an index chance gives where requests are drawn from the training rows.

    Args:
        table: Counts of each training row by bin, shape ``(rows, bins)``.
        groups: What each row shares with others.
        requests: How many.
        level: Share of the draws that is above.
        seed: Of the draws.
    """

    def distance(rows: Floats, drawn: Floats) -> Floats:
        return stability_index(rows, drawn)

    return quantile_above(draw_twice(table, groups, requests, seed, distance), level)


def chance_of_rise(
    table: Floats,
    groups: Sequence[str | None],
    requests: int,
    level: float,
    seed: int,
    statistic: Statistic,
) -> float:
    """Return how much higher chance makes a figure of requests that are drawn from known rows.

    Args:
        table: What `statistic` takes the sums of, shape ``(rows, columns)``.
        groups: What each row shares with others.
        requests: How many.
        level: Share of the draws that is above.
        seed: Of the draws.
        statistic: Makes the figure of sums.
    """

    def rise(rows: Floats, drawn: Floats) -> Floats:
        return statistic(drawn) - statistic(rows)

    return quantile_above(draw_twice(table, groups, requests, seed, rise), level)


def draw_twice(
    table: Floats,
    groups: Sequence[str | None],
    requests: int,
    seed: int,
    compare: Callable[[Floats, Floats], Floats],
) -> Floats:
    """Compare known rows and requests that are both drawn from the known rows, again and again.

    Args:
        table: Shape ``(rows, columns)``.
        groups: What each row shares with others: whole groups are drawn. None stands for itself,
            and so does each row where all share one group.
        requests: How many rows the second sample has; of whole groups about as many.
        seed: Of the draws.
        compare: Given the sums of both samples, shape ``(some draws, columns)``, returns one number
            for each draw.

    Returns:
        Shape ``(DRAWS,)``.
    """
    units = sum_by_group(table, groups)
    # Groups that are counted alike are one kind: of rows by themselves there are as few as bins.
    kinds, times = np.unique(units, axis=0, return_counts=True)
    shares = times / len(units)
    fewer = max(1, round(requests * len(units) / len(table)))
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // len(kinds))
    found = []
    for start in range(0, DRAWS, at_once):
        size = min(at_once, DRAWS - start)
        samples = [generator.multinomial(n, shares, size) @ kinds for n in (len(units), fewer)]
        found.append(compare(*samples))
    return np.concatenate(found)


def quantile_above(drawn: Floats, level: float) -> float:
    """Return the smallest drawn number that at most a share `level` of all is above."""
    return float(np.quantile(drawn, 1 - level, method="higher"))
