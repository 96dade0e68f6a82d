"""The difference of one model's figure on two independent sets of rows.

Formula. ``difference = figure of the newer rows - figure of the older rows``, each a statistic of
sums over its own rows (`scoring.uncertainty`). Interval of 95 %: percentile bootstrap, in which
both sets are drawn by themselves, rows of one group together; with few groups it is widened
as `interval_of` says, by the set that has fewer. Of yes/no outcomes it is on each side the wider of
that and Newcombe's hybrid score interval (1998, method 10), which keeps its width where all rows of
a set agree:

    ``low = d - sqrt((p1 - l1)^2 + (u2 - p2)^2)``, ``high = d + sqrt((u1 - p1)^2 + (p2 - l2)^2)``

with Wilson's l and u of each rate. Rows that could not be scored are in neither set. Direction is
the figure's own.

Agrees with Newcombe's table II (56/70 - 48/80: 0.0524 to 0.3339).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retune.scoring.uncertainty.estimates import wilson_interval
from retune.scoring.uncertainty.resampling import (
    SEED,
    UNBOUNDED,
    Floats,
    Statistic,
    interval_of,
    label_groups,
    ratio_of_sums,
    resample_sums,
    sum_by_group,
    sum_exactly,
    weigh_units,
)


@dataclass(frozen=True)
class Sample:
    """One set of scored rows.

    Attributes:
        table: What the statistic takes the sums of, shape ``(rows, columns)``.
        groups: What each row shares with others.
    """

    table: Floats
    groups: Sequence[str | None]

    @property
    def units(self) -> int:
        """Independent groups, or rows where none is shared."""
        return len(set(label_groups(len(self.table), self.groups)))


@dataclass(frozen=True)
class SampleDifference:
    """Newer minus older, with its interval of 95 %.

    Attributes:
        older: The figure of the older rows.
        newer: The figure of the newer rows.
        low: Lower end of the difference.
        high: Upper end.
    """

    older: float
    newer: float
    low: float
    high: float


def compare_samples(
    older: Sample, newer: Sample, statistic: Statistic, resamples: int
) -> SampleDifference:
    """Compare a figure on two independent sets of rows.

    Args:
        older: Rows of then; at least one, and something to divide by.
        newer: Rows of now, likewise.
        statistic: Makes the figure of sums.
        resamples: Bootstrap draws.

    Returns:
        The difference.
    """
    values = [float(statistic(sum_exactly(each.table))) for each in (older, newer)]
    # Drawn by seeds of their own: by one, sets of one size would rise and fall together.
    drawn = [
        statistic(
            resample_sums(sum_by_group(each.table, each.groups), resamples=resamples, seed=seed)
        )
        for each, seed in ((older, SEED), (newer, SEED + 1))
    ]
    yes_no = statistic is ratio_of_sums and all(map(_is_yes_no, (older, newer)))
    units = min(weigh_units(len(each.table), each.groups) for each in (older, newer))
    difference, limits = values[1] - values[0], (-1.0, 1.0) if yes_no else UNBOUNDED
    low, high = interval_of(drawn[1] - drawn[0], difference, units, limits)
    if yes_no:
        wider = newcombe_interval(*_count_yes(newer), *_count_yes(older))
        low, high = min(low, wider[0]), max(high, wider[1])
    return SampleDifference(values[0], values[1], low, high)


def newcombe_interval(yes: int, n: int, other_yes: int, other_n: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two independent rates.

    Args:
        yes: Of the first set.
        n: Rows of the first set, at least one.
        other_yes: Of the other, which is taken off.
        other_n: Rows of the other, at least one.

    Returns:
        Low and high.
    """
    first, second = yes / n, other_yes / other_n
    (low, high), (other_low, other_high) = (
        wilson_interval(yes, n),
        wilson_interval(other_yes, other_n),
    )
    return (
        first - second - math.hypot(first - low, other_high - second),
        first - second + math.hypot(high - first, second - other_low),
    )


def _is_yes_no(sample: Sample) -> bool:
    table = sample.table
    return bool(np.isin(table[:, 0], (0.0, 1.0)).all() and (table[:, 1:] == 1.0).all())


def _count_yes(sample: Sample) -> tuple[int, int]:
    return int(sample.table[:, 0].sum()), len(sample.table)
