"""One figure and its interval; the package says which."""

from __future__ import annotations

import math
from collections.abc import Sequence

from numpy.typing import ArrayLike

from retune.errors import ScoringError
from retune.score_records import Metric
from retune.scoring.uncertainty.resampling import (
    RESAMPLES,
    UNBOUNDED,
    Statistic,
    count_groups,
    exp_of_ratio,
    interval_of,
    ratio_of_sums,
    resample_sums,
    sum_by_group,
    sum_exactly,
    weigh_units,
)
from retune.scoring.uncertainty.score_tables import as_table, check_groups

Estimate = Metric
"""A figure with its 95 % interval; value None means that it could not be scored, not zero."""


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a rate.

    Args:
        successes: How many of the rows.
        n: Rows.

    Returns:
        Low and high, inside [0, 1].

    Raises:
        ScoringError: There are no rows, or more successes than rows.

    Example:
        Eight of ten is known to lie between a half and nineteen twentieths:

        >>> [round(end, 3) for end in wilson_interval(8, 10)]
        [0.49, 0.943]
    """
    if not 0 <= successes <= n or n == 0:
        raise ScoringError(
            f"Found {successes} successes in {n} rows; expected 0 <= successes <= rows and at "
            "least one row. Report an unscored figure as Estimate(value=None) instead."
        )
    from scipy.stats import binomtest

    low, high = binomtest(successes, n).proportion_ci(method="wilson")
    return float(low), float(high)


def estimate_rate(
    outcomes: Sequence[bool | None],
    *,
    groups: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Estimate the share of yes among yes/no outcomes.

    Wilson's interval; where groups repeat, the wider of it and the bootstrap over groups on each
    side. (The bootstrap alone has no width when all rows agree, which is not certainty.)

    Args:
        outcomes: One per row; None is left out.
        groups: What each row shares with others; None stands for itself.
        resamples: Bootstrap draws.

    Returns:
        The share; value None when no row was scored.

    Raises:
        ScoringError: There are not as many groups as outcomes.
    """
    shared = check_groups(len(outcomes), groups)
    kept = [at for at, outcome in enumerate(outcomes) if outcome is not None]
    if not kept:
        return Estimate(value=None, low=None, high=None, n=0)
    values = [1.0 if outcomes[at] else 0.0 for at in kept]
    successes, n = int(sum(values)), len(values)
    low, high = wilson_interval(successes, n)
    shared = [shared[at] for at in kept]
    found = count_groups(n, shared)
    if found is not None and found > 1:
        drawn = bootstrap_interval(values, groups=shared, resamples=resamples, limits=(0.0, 1.0))
        low, high = min(low, drawn[0]), max(high, drawn[1])
    return Estimate(value=successes / n, low=low, high=high, n=n, groups=found)


def estimate_ratio(
    numerators: Sequence[float],
    denominators: Sequence[float] | None = None,
    *,
    statistic: Statistic = ratio_of_sums,
    groups: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Estimate a ratio of sums over rows, or `exp_of_ratio` of it.

    Args:
        numerators: One per row (NLL sum in nats, say).
        denominators: One per row (tokens, say); each row counts 1 when left out.
        statistic: `ratio_of_sums` (mean) or `exp_of_ratio` (perplexity).
        groups: What each row shares with others; None stands for itself.
        resamples: Bootstrap draws.

    Returns:
        The figure; value None when there are no rows or nothing to divide by. A single row has no
        interval: nothing says how another would be.

    Raises:
        ScoringError: Lengths differ, or a number is not finite.
    """
    table = as_table(numerators, denominators)
    if not len(table) or not table[:, 1].sum():
        return Estimate(value=None, low=None, high=None, n=0)
    limits = (0.0, math.inf) if statistic is exp_of_ratio else UNBOUNDED
    return estimate_table(table, statistic, groups=groups, resamples=resamples, limits=limits)


def estimate_table(
    table: ArrayLike,
    statistic: Statistic,
    *,
    groups: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
    limits: tuple[float, float] = UNBOUNDED,
) -> Estimate:
    """Estimate a figure that is made of sums over rows, such as corpus BLEU.

    Args:
        table: Numbers of rows, shape ``(rows, columns)``.
        statistic: Makes the figure of the sums.
        groups: What each row shares with others; None stands for itself.
        resamples: Bootstrap draws.
        limits: What the figure can be.

    Returns:
        The figure; value None when there are no rows. A single row has no interval: nothing says
        how another would be.

    Raises:
        ScoringError: A number is not finite.
    """
    table = as_table(table)
    if not len(table):
        return Estimate(value=None, low=None, high=None, n=0)
    value = float(statistic(sum_exactly(table)))
    if len(table) == 1:
        return Estimate(value=value, low=None, high=None, n=1)
    low, high = bootstrap_interval(
        table, statistic=statistic, groups=groups, resamples=resamples, limits=limits
    )
    shared = count_groups(len(table), groups)
    return Estimate(value=value, low=low, high=high, n=len(table), groups=shared)


def bootstrap_interval(
    values: ArrayLike,
    *,
    statistic: Statistic = ratio_of_sums,
    groups: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
    limits: tuple[float, float] = UNBOUNDED,
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a figure made of sums over rows.

    Args:
        values: One number per row, each of which counts 1, or a table of shape
            ``(rows, columns)`` that `statistic` understands once it is summed (confusion counts,
            for F1).
        statistic: Makes the figure of the sums.
        groups: What each row shares with others: whole groups are drawn. None stands for itself.
        resamples: Draws.
        limits: What the figure can be.

    Returns:
        Low and high.

    Raises:
        ScoringError: There are no rows, or a number is not finite.
    """
    table = as_table(values)
    if not len(table):
        raise ScoringError("Found no rows to resample; expected at least one scored row.")
    units = sum_by_group(table, groups)
    drawn = statistic(resample_sums(units, resamples=resamples))
    return interval_of(
        drawn, float(statistic(sum_exactly(table))), weigh_units(len(table), groups), limits
    )
