"""The difference of two models on the same rows, and whether it can be chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from retune.errors import ScoringError
from retune.score_records import PairedDifference
from retune.scoring.uncertainty.exchanging import exchange_p_value, fewest_units
from retune.scoring.uncertainty.resampling import (
    ALPHA,
    RESAMPLES,
    SEED,
    UNBOUNDED,
    Floats,
    Statistic,
    count_draws,
    count_exchanges,
    count_groups,
    interval_of,
    ratio_of_sums,
    resample_sums,
    sum_by_group,
    sum_exactly,
    weigh_units,
)
from retune.scoring.uncertainty.score_tables import as_table, check_groups

Scores = ArrayLike | Sequence[float | None]
Direction = Literal["higher_is_better", "lower_is_better"]
Verdict = Literal["better", "worse", "undecided"]


NOT_COMPARED = PairedDifference(
    difference=None, low=None, high=None, p_value=None, n=0, verdict="undecided"
)
"""What is known without a row that both sides scored."""


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
    alpha: float = ALPHA,
    against_margin: bool = False,
    seed: int = SEED,
) -> PairedDifference:
    """Compare two models on the same rows.

    The p-value is that of `exchanging`, over rows or, where rows share one, over groups: it is
    never below 2^(1 - d), d being the rows (or groups) whose numbers differ. For yes/no outcomes (a
    flat sequence of 0 and 1, None where unscored) of rows on their own it is McNemar's. Their
    interval is the wider of the bootstrap's and Agresti and Min's (2005), which keeps its width
    when the two never disagree. A row that either side could not score is left out of both.

    Where the interval is held against a margin, no test says that groups differ at all, and those
    at hand may agree while one of twenty is lost as a whole: half a group, and not half a row, is
    added to each of Agresti and Min's cells then.

    Args:
        challenger: One number per row, or a table ``(rows, columns)`` for `statistic`.
        baseline: The same rows in the same order.
        direction: Which sign is good.
        statistic: Makes the figure of the sums.
        groups: What each row shares with others; None stands for itself.
        resamples: Bootstrap draws.
        limits: What the difference can be; that of yes/no outcomes lies in [-1, 1] in any case.
        alpha: Chance that the interval misses the difference, and level of the test.
        against_margin: Whether the interval alone has to show that nothing was lost but a margin.
        seed: Of the draws.

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
    draws = count_draws(resamples, alpha)
    sums = resample_sums(units, resamples=draws, seed=seed)
    drawn = statistic(sums[:, :width]) - statistic(sums[:, width:])
    yes_no = statistic is ratio_of_sums and _is_yes_no(both)
    limits = (-1.0, 1.0) if yes_no else limits
    weight = weigh_units(n, shared)
    low, high = interval_of(drawn, difference, weight, limits, alpha)
    if yes_no:
        added = n / weight if against_margin else 1.0
        wider = agresti_min_interval(*_disagreements(both), n, alpha, unit=added)
        low, high = min(low, wider[0]), max(high, wider[1])
    if yes_no and len(units) == n:
        p_value = mcnemar_exact(*_disagreements(both))
    else:
        exchanges = count_exchanges(resamples, alpha)
        sides = units[:, :width], units[:, width:]
        p_value = exchange_p_value(*sides, statistic, resamples=exchanges, seed=seed)
    found = PairedDifference(
        difference=difference,
        low=low,
        high=high,
        p_value=p_value,
        n=n,
        verdict=_decide(low, high, p_value, direction, alpha),
        groups=count_groups(n, shared),
        alpha=alpha,
    )
    if n == len(units) or len(units) >= fewest_units(alpha):
        return found
    # So few groups can show nothing, but a loss on the very rows at hand shall not go unseen.
    alone = paired_difference(
        both[:, :width],
        both[:, width:],
        direction=direction,
        statistic=statistic,
        resamples=resamples,
        alpha=alpha,
        seed=seed,
    )
    return found.model_copy(update={"worse_on_rows": alone.verdict == "worse"})


def _decide(low: float, high: float, p_value: float, direction: Direction, alpha: float) -> Verdict:
    if p_value >= alpha or low <= 0.0 <= high:
        return "undecided"
    good = low > 0.0 if direction == "higher_is_better" else high < 0.0
    return "better" if good else "worse"


def _scored_by_both(
    challenger: Scores, baseline: Scores, groups: Sequence[str | None] | None
) -> tuple[Floats, list[str | None]]:
    sides = [np.asarray(side, dtype=np.float64) for side in (challenger, baseline)]
    if sides[0].shape != sides[1].shape:
        raise ScoringError(
            f"Found results of shape {sides[0].shape} and {sides[1].shape}; expected the same rows "
            "on both sides. Score both models on one split."
        )
    shared = check_groups(len(sides[0]), groups)
    flat = [side.reshape(len(side), math.prod(side.shape[1:])) for side in sides]
    scored = np.flatnonzero(~np.isnan(np.column_stack(flat)).any(axis=1))
    kept = [shared[at] for at in scored]
    tables = [as_table(side[scored]) for side in sides]
    return np.column_stack(tables), kept


def _disagreements(both: Floats) -> tuple[int, int]:
    """Return in how many rows the first side alone has more, and the second alone."""
    first, second = both[:, 0], both[:, both.shape[1] // 2]
    return int((first > second).sum()), int((first < second).sum())


def _is_yes_no(both: Floats) -> bool:
    return both.shape[1] == 4 and bool(np.isin(both, (0.0, 1.0)).all() and both[:, 1].all())


def agresti_min_interval(
    wins: int, losses: int, n: int, alpha: float, *, unit: float = 1.0
) -> tuple[float, float]:
    """Return the interval of a paired difference of two rates (Agresti and Min 2005).

    Wald's, after half a row was added to each of the four cells; or half a unit of several rows
    that stand or fall together, whose variance is the square of their number.

    Args:
        wins: Rows that the first model alone got right.
        losses: Rows that the second alone got right.
        n: All rows.
        alpha: Chance that the interval misses the difference.
        unit: Rows of what half of is added.

    Returns:
        Low and high, inside [-1, 1].
    """
    b, c, rows = wins + unit / 2, losses + unit / 2, n + 2 * unit
    centre = (b - c) / rows
    z = NormalDist().inv_cdf(1 - alpha / 2)
    spread = wins + losses + unit**2 - (b - c) ** 2 / rows
    half = z * math.sqrt(max(0.0, spread)) / rows
    return max(-1.0, centre - half), min(1.0, centre + half)
