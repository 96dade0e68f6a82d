"""Seeded resampling of sums over rows, the machinery under the other files of this room.

A figure is a statistic of sums over rows, so that ten thousand resamples are one matrix product:
how often each row (or group) was drawn, times the table of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retune.errors import ScoringError

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Maps sums over rows, shape ``(..., columns)``, to figures, shape ``(...)``."""

RESAMPLES = 10_000
SEED = 20240601
ALPHA = 0.05
MOST_DRAWS = 20_000
"""What draws are raised to where less than `ALPHA` lies beyond an interval's ends."""
_EXCHANGES_PER_LEVEL = 10
MANY_UNITS = 100
"""From here on the correction for few units is under 2 % of an interval, and is left out."""

MOST_NATS = 300.0
"""Mean loss of a token above which a perplexity means nothing; its square is a number still."""

UNBOUNDED = (-math.inf, math.inf)
_DRAWS_AT_ONCE = 4_000_000  # row numbers held in memory at a time, 32 MB


def ratio_of_sums(sums: Floats) -> Floats:
    """First column over second: a mean when the second counts rows."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1], dtype=np.float64)


def exp_of_ratio(sums: Floats) -> Floats:
    """exp(first column over second): perplexity from NLL sums (nats) and token counts.

    At most `e^MOST_NATS`: an infinite one could not be compared, and no JSON holds it.
    """
    return np.asarray(np.exp(np.minimum(ratio_of_sums(sums), MOST_NATS)), dtype=np.float64)


def bits_of_ratio(sums: Floats) -> Floats:
    """First column over second, nats turned into bits: the statistic of bits per byte."""
    return np.asarray(ratio_of_sums(sums) / math.log(2), dtype=np.float64)


def resample_sums(table: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> Floats:
    """Sum a table over rows drawn with replacement, again and again.

    Args:
        table: Shape ``(rows, columns)``.
        resamples: Draws.
        seed: Of the draws; two independent samples must not be drawn by one.

    Returns:
        Sums, shape ``(resamples, columns)``.
    """
    rows = np.asarray(table, dtype=np.float64)
    return np.concatenate([counts @ rows for counts in _count_draws(len(rows), resamples, seed)])


def sum_by_group(table: Floats, groups: Sequence[str | None] | None) -> Floats:
    """Add up each group's rows, in an order that does not depend on that of the rows.

    Sorted before (adding floats in another order rounds otherwise) and after (a seeded draw takes
    the i-th group).

    Args:
        table: Shape ``(rows, columns)``.
        groups: What each row shares with others; None stands for itself.

    Returns:
        Sums, shape ``(groups, columns)``.

    Raises:
        ScoringError: There is not one group per row.
    """
    _, numbers = np.unique(label_groups(len(table), groups), return_inverse=True)
    order = np.lexsort((*table.T[::-1], numbers))
    sums = np.zeros((int(numbers.max()) + 1, table.shape[1]))
    np.add.at(sums, numbers[order], table[order])
    return sums[np.lexsort(sums.T[::-1])]


def sum_exactly(table: Floats) -> Floats:
    """Return each column's sum, rounded once, so that the order of rows cannot show."""
    return np.array([math.fsum(column) for column in table.T])


def label_groups(n: int, groups: Sequence[str | None] | None) -> list[str]:
    """Give each row the label of its group, and one of its own where it has none.

    Where all rows share one group there are no groups to draw from, and drawing the one again and
    again would look like certainty: each row stands for itself, and figures speak of that group.

    Args:
        n: Rows.
        groups: One per row, or None when no row shares anything.

    Returns:
        One label per row.

    Raises:
        ScoringError: There is not one group per row.
    """
    if groups is None:
        return [f"row {at}" for at in range(n)]
    if len(groups) != n:
        raise ScoringError(f"Found {n} rows and {len(groups)} groups; expected one group per row.")
    alone = len(set(groups)) == 1
    return [
        f"row {at}" if alone or group is None else f"group {group}"
        for at, group in enumerate(groups)
    ]


def count_groups(n: int, groups: Sequence[str | None] | None) -> int | None:
    """Count the independent groups that rows fall into.

    Args:
        n: Rows.
        groups: One per row; None stands for itself.

    Returns:
        Groups, 1 where all rows share the same one (and are drawn as rows); None where no row
        shares anything.

    Raises:
        ScoringError: There is not one group per row.
    """
    if groups is None or n < 2:
        return None
    if len(set(groups)) == 1 and groups[0] is not None:
        return 1
    found = len(set(label_groups(n, groups)))
    return None if found == n else found


def count_units(n: int, groups: int | None) -> int:
    """Return how many independent things a figure of `n` rows in so many groups was seen on.

    Rows of one group stand for themselves: the figure speaks of that group alone.
    """
    return n if groups is None or groups == 1 else groups


def count_draws(resamples: int, alpha: float) -> int:
    """Return how many draws an interval needs, so that as many lie beyond its ends as at `ALPHA`.

    Args:
        resamples: Draws at `ALPHA`.
        alpha: Chance that the interval misses the figure.

    Returns:
        At least `resamples`; above it at most `MOST_DRAWS`.
    """
    return max(resamples, min(math.ceil(resamples * ALPHA / alpha), MOST_DRAWS))


def count_exchanges(resamples: int, alpha: float) -> int:
    """Return how many exchanges a test has to draw so that its p-value can be under a level.

    Of N draws it is 1 / (N + 1) at the least: with too few of them nothing could ever be decided.

    Args:
        resamples: Draws at `ALPHA`.
        alpha: The level.

    Returns:
        What `count_draws` gives, and more where the level is under ten of these.
    """
    return max(count_draws(resamples, alpha), math.ceil(_EXCHANGES_PER_LEVEL / alpha))


def weigh_units(n: int, groups: Sequence[str | None] | None) -> float:
    """Return how many units of one size would tell as much as the groups that there are.

    (sum of rows)^2 / sum of squared rows, over groups (Kish): twenty databases of which one holds
    nearly all rows are little more than one.

    Args:
        n: Rows, at least one.
        groups: One per row; None stands for itself.

    Returns:
        From 1 to the number of groups.
    """
    _, sizes = np.unique(label_groups(n, groups), return_counts=True)
    return float(n**2 / (sizes.astype(np.float64) ** 2).sum())


def interval_of(
    drawn: Floats,
    value: float,
    units: float,
    limits: tuple[float, float] = UNBOUNDED,
    alpha: float = ALPHA,
) -> tuple[float, float]:
    """Return the interval of a figure from its resamples, of 95 % unless `alpha` says otherwise.

    The middle 95 % of them. Resampling few units shows too little spread (two that agree by chance
    have none), so under `MANY_UNITS` the interval is the wider, on each side, of that and Student's
    with units - 1 degrees of freedom, whose standard error is that of the resamples times
    sqrt(units / (units - 1)).

    Args:
        drawn: The figure of each resample, of which at least one is defined.
        value: The figure.
        units: Rows or groups that were drawn, as `weigh_units` counts them.
        limits: What the figure can be.
        alpha: Chance that the interval misses the figure.

    Returns:
        Low and high.
    """
    low, high = percentile_interval(drawn, alpha)
    finite = drawn[np.isfinite(drawn)]
    if units >= MANY_UNITS or not math.isfinite(value) or len(finite) < len(drawn) / 2:
        return low, high
    from scipy.special import stdtrit

    units = max(2.0, units)  # less than one degree of freedom is no interval at all
    error = float(finite.std()) * math.sqrt(units / (units - 1))
    half = float(stdtrit(units - 1, 1 - alpha / 2)) * error
    return max(limits[0], min(low, value - half)), min(limits[1], max(high, value + half))


def percentile_interval(drawn: Floats, alpha: float = ALPHA) -> tuple[float, float]:
    """Return the middle 1 - alpha of resampled figures, of which at least one is defined."""
    # A resample without anything to divide by (NaN) says nothing about the figure.
    defined = drawn[~np.isnan(drawn)]
    low, high = np.percentile(defined, [100 * alpha / 2, 100 * (1 - alpha / 2)])
    return float(low), float(high)


def _count_draws(n: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield how often each row was drawn, shape ``(some resamples, rows)``."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // n)
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = generator.integers(0, n, (size, n))
        drawn += np.arange(size)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
