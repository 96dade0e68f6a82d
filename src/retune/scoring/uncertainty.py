"""How sure a figure is: intervals of one, and the difference of two on the same rows.

Definitions. Rates: Wilson's score interval. Everything that is a function of sums over rows (mean,
ratio of sums, perplexity = exp(sum nll / sum tokens), F1 from confusion counts): percentile
bootstrap over rows, or over groups where rows share one (a database, a document, a template), since
such rows are not independent; rows that all share the same one are drawn as rows. With few of them
it is widened (`resampling.interval_of`). Tests of paired differences exchange the two sides of each
row or group (`exchanging`); for yes/no outcomes of rows on their own that is McNemar's exact test,
the two-sided binomial test on the rows where the two disagree.

Everything is seeded and does not depend on the order of rows. Rows that could not be scored (None)
are left out, never counted as zero; without any row left the value is None. Direction is always
said: nothing here assumes that higher is better. Nothing is rounded.

Both exact tests and Wilson's interval are `scipy.stats.binomtest`, which takes most of a second to
import: so only whoever needs one does. Agrees with statsmodels' exact McNemar test, and with the
percentiles of numpy's draws of rows scored by scikit-learn (accuracy and macro F1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict

from retune.errors import ScoringError
from retune.records import Metric
from retune.scoring.exchanging import FEWEST_UNITS, exchange_p_value
from retune.scoring.resampling import (
    ALPHA,
    RESAMPLES,
    UNBOUNDED,
    Floats,
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

Estimate = Metric
"""A figure with its 95 % interval; value None means that it could not be scored, not zero."""

Scores = ArrayLike | Sequence[float | None]
Direction = Literal["higher_is_better", "lower_is_better"]
Verdict = Literal["better", "worse", "undecided"]

_Z = 1.959963984540054  # normal quantile of 1 - ALPHA / 2


class PairedDifference(BaseModel):
    """Challenger minus baseline on the same rows, and what follows from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    difference: float | None
    """In the figure's own unit and sign: below zero is good where lower is better."""

    low: float | None
    high: float | None
    p_value: float | None
    n: int
    verdict: Verdict
    """`undecided` unless the interval excludes zero and the p-value is under 0.05."""

    groups: int | None = None
    """Independent groups that the rows fall into, as in `Metric`."""

    worse_on_rows: bool = False
    """Where groups are too few to decide: whether the rows at hand, each on its own, are worse."""


NOT_COMPARED = PairedDifference(
    difference=None, low=None, high=None, p_value=None, n=0, verdict="undecided"
)
"""What is known without a row that both sides scored."""


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
    shared = _check_groups(len(outcomes), groups)
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
    table = _as_table(numerators, denominators)
    if not len(table) or not table[:, 1].sum():
        return Estimate(value=None, low=None, high=None, n=0)
    value = float(statistic(sum_exactly(table)))
    if len(table) == 1:
        return Estimate(value=value, low=None, high=None, n=1)
    low, high = bootstrap_interval(
        table,
        statistic=statistic,
        groups=groups,
        resamples=resamples,
        limits=(0.0, math.inf) if statistic is exp_of_ratio else UNBOUNDED,
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
    table = _as_table(values, None)
    if not len(table):
        raise ScoringError("Found no rows to resample; expected at least one scored row.")
    units = sum_by_group(table, groups)
    drawn = statistic(resample_sums(units, resamples=resamples))
    return interval_of(
        drawn, float(statistic(sum_exactly(table))), weigh_units(len(table), groups), limits
    )


def mcnemar_exact(only_first_right: int, only_second_right: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    Args:
        only_first_right: Rows that the first model got right and the second wrong.
        only_second_right: The other way round.

    Returns:
        The probability, if neither were better, of disagreements at least this one-sided; 1.0
        when they never disagree.

    Example:
        Of eight disagreements at most one the one way, or the other: 2 * (1 + 8) / 2**8.

        >>> round(mcnemar_exact(1, 7), 7)
        0.0703125
    """
    from scipy.stats import binomtest

    disagreements = only_first_right + only_second_right
    return float(binomtest(only_first_right, disagreements).pvalue) if disagreements else 1.0


def paired_difference(
    challenger: Scores,
    baseline: Scores,
    *,
    direction: Direction,
    statistic: Statistic = ratio_of_sums,
    groups: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
    limits: tuple[float, float] = UNBOUNDED,
) -> PairedDifference:
    """Compare two models on the same rows.

    The p-value is that of `exchanging`, over rows or, where rows share one, over groups: it is
    never below 2^(1 - d), d being the rows (or groups) whose numbers differ. For yes/no outcomes (a
    flat sequence of 0 and 1, None where unscored) of rows on their own it is McNemar's. Their
    interval is the wider of the bootstrap's and Agresti and Min's (2005), which keeps its width
    when the two never disagree. A row that either side could not score is left out of both.

    Args:
        challenger: One number per row, or a table ``(rows, columns)`` for `statistic`.
        baseline: The same rows in the same order.
        direction: Which sign is good.
        statistic: Makes the figure of the sums.
        groups: What each row shares with others; None stands for itself.
        resamples: Bootstrap draws.
        limits: What the difference can be; that of yes/no outcomes lies in [-1, 1] in any case.

    Returns:
        Difference challenger minus baseline; None, undecided, when no row is scored by both, or
        there is nothing to divide by.

    Raises:
        ScoringError: The two, or the groups, differ in length, or a number is infinite.
    """
    both, shared = _scored_by_both(challenger, baseline, groups)
    n, width = len(both), both.shape[1] // 2
    total = sum_exactly(both)
    difference = float(statistic(total[:width]) - statistic(total[width:])) if n else math.nan
    if math.isnan(difference):
        return NOT_COMPARED
    units = sum_by_group(both, shared)
    sums = resample_sums(units, resamples=resamples)
    drawn = statistic(sums[:, :width]) - statistic(sums[:, width:])
    yes_no = statistic is ratio_of_sums and _is_yes_no(both)
    limits = (-1.0, 1.0) if yes_no else limits
    low, high = interval_of(drawn, difference, weigh_units(n, shared), limits)
    wins, losses = (int((sign * (both[:, 0] - both[:, width]) > 0).sum()) for sign in (1, -1))
    if yes_no:
        wider = _agresti_min(wins, losses, n)
        low, high = min(low, wider[0]), max(high, wider[1])
    if yes_no and len(units) == n:
        p_value = mcnemar_exact(wins, losses)
    else:
        p_value = exchange_p_value(
            units[:, :width], units[:, width:], statistic, resamples=resamples
        )
    found = PairedDifference(
        difference=difference,
        low=low,
        high=high,
        p_value=p_value,
        n=n,
        verdict=_decide(low, high, p_value, direction),
        groups=count_groups(n, shared),
    )
    if n == len(units) or len(units) >= FEWEST_UNITS:
        return found
    # So few groups can show nothing, but a loss on the very rows at hand shall not go unseen.
    alone = paired_difference(
        both[:, :width],
        both[:, width:],
        direction=direction,
        statistic=statistic,
        resamples=resamples,
    )
    return found.model_copy(update={"worse_on_rows": alone.verdict == "worse"})


def _decide(low: float, high: float, p_value: float, direction: Direction) -> Verdict:
    if p_value >= ALPHA or low <= 0.0 <= high:
        return "undecided"
    good = low > 0.0 if direction == "higher_is_better" else high < 0.0
    return "better" if good else "worse"


def _check_groups(n: int, groups: Sequence[str | None] | None) -> list[str | None]:
    """Return one group per row, as they are: which rows are alone is for those that are scored."""
    if groups is None:
        return [None] * n
    if len(groups) != n:
        raise ScoringError(f"Found {n} rows and {len(groups)} groups; expected one group per row.")
    return list(groups)


def _as_table(numerators: ArrayLike, denominators: ArrayLike | None) -> Floats:
    values = np.asarray(numerators, dtype=np.float64)
    if values.ndim == 2 and denominators is None:
        table = values
    else:
        weights = np.ones(len(values)) if denominators is None else np.asarray(denominators)
        if len(weights) != len(values):
            raise ScoringError(
                f"Found {len(values)} numerators and {len(weights)} denominators; expected one of "
                "each per row."
            )
        table = np.column_stack([values, weights.astype(np.float64)])
    if not np.isfinite(table).all():
        raise ScoringError(
            f"Found {int((~np.isfinite(table)).any(axis=1).sum())} of {len(table)} rows with a "
            "number that is not finite; expected unscored rows to be left out before."
        )
    return table


def _scored_by_both(
    challenger: Scores, baseline: Scores, groups: Sequence[str | None] | None
) -> tuple[Floats, list[str | None]]:
    sides = [np.asarray(side, dtype=np.float64) for side in (challenger, baseline)]
    if sides[0].shape != sides[1].shape:
        raise ScoringError(
            f"Found results of shape {sides[0].shape} and {sides[1].shape}; expected the same rows "
            "on both sides. Score both models on one split."
        )
    shared = _check_groups(len(sides[0]), groups)
    flat = [side.reshape(len(side), math.prod(side.shape[1:])) for side in sides]
    scored = np.flatnonzero(~np.isnan(np.column_stack(flat)).any(axis=1))
    kept = [shared[at] for at in scored]
    tables = [_as_table(side[scored], None) for side in sides]
    return np.column_stack(tables), kept


def _is_yes_no(both: Floats) -> bool:
    return both.shape[1] == 4 and bool(np.isin(both, (0.0, 1.0)).all() and both[:, 1].all())


def _agresti_min(wins: int, losses: int, n: int) -> tuple[float, float]:
    """Wald's interval of the paired difference after adding half a row to each of four cells."""
    b, c, rows = wins + 0.5, losses + 0.5, n + 2.0
    centre = (b - c) / rows
    half = _Z * math.sqrt(max(0.0, b + c - (b - c) ** 2 / rows)) / rows
    return max(-1.0, centre - half), min(1.0, centre + half)
