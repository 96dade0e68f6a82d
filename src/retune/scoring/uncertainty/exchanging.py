"""Tests that exchange the two sides of independent units: exact however few units there are.

If two models were equal, each unit (a row, or all rows of a database, a document, a template)
could as well have shown their two results the other way round. `exchange_p_value` is the share of
all such exchanges whose difference is at least as far from zero as the one that was found (Fisher's
randomization test; for a mean of differences that is the sign-flip test, for rows of yes and no
McNemar's exact test). Of d units that differ there are 2^d exchanges, two of which show the found
size at the least, so that p is never below 2^(1 - d): five databases cannot decide at 0.05, however
many rows they hold. No distribution is assumed, and no unit has to be as large as another.

Up to `EXACT_UP_TO` differing units all exchanges are counted; above, a seeded sample of them.
Agrees with scipy.stats.permutation_test (permutation_type="samples").
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from retune.scoring.uncertainty.resampling import (
    ALPHA,
    RESAMPLES,
    SEED,
    Floats,
    Statistic,
    ratio_of_sums,
)

EXACT_UP_TO = 14
"""Differing units; 2**13 exchanges are as many as a sample would be."""

_SAMPLED_SIGNS = 100_000
_AT_ONCE = 2_000_000  # signs held in memory at a time, 16 MB
_TIE = 1e-9  # adding floats in another order is no difference


def fewest_units(alpha: float) -> int:
    """Return the number of units below which no exchange test can be under a level."""
    return math.floor(1 - math.log2(alpha)) + 1


FEWEST_UNITS = fewest_units(ALPHA)
"""Units below which no exchange test can be under `ALPHA`: six."""


def exchange_p_value(
    ours: Floats,
    theirs: Floats,
    statistic: Statistic,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> float:
    """Test whether a statistic of two sides differs, by exchanging them unit by unit.

    Args:
        ours: Sums of each independent unit, shape ``(units, columns)``.
        theirs: The same units of the other side.
        statistic: Makes the figure of the sums over all units.
        resamples: Exchanges drawn where there are too many to count.
        seed: Of the draws.

    Returns:
        The two-sided p-value; 1.0 where no unit differs.
    """
    half = (ours - theirs) / 2
    half = half[(half != 0).any(axis=1)]
    if not len(half):
        return 1.0
    # By size, so that neither the order of units nor which side is which can show in the draws.
    half = half[np.lexsort(np.abs(half).T[::-1])]
    middle = np.array([math.fsum(column) / 2 for column in (ours + theirs).T])

    def differences(signs: Floats) -> Floats:
        shift = signs @ half
        found = statistic(middle + shift) - statistic(middle - shift)
        return np.abs(np.asarray(found, dtype=np.float64))

    exact = len(half) <= EXACT_UP_TO
    patterns = _all_signs(len(half)) if exact else _draw_signs(len(half), resamples, seed)
    [observed] = differences(np.ones((1, len(half))))
    found = np.concatenate([differences(signs) for signs in patterns])
    needed = observed - _TIE * np.nanmax(np.append(found, observed))
    # An exchange whose difference is not defined speaks against nothing: it counts as far.
    count = int((~(found < needed)).sum())
    # The found order is one of them: no number of draws shows that p is zero.
    return count / len(found) if exact else (count + 1) / (len(found) + 1)


def sign_flip_test(differences: Iterable[float]) -> float:
    """Return the two-sided p-value of the paired sign-flip test of a mean of zero.

    Args:
        differences: One per independent unit. Zeros say nothing and do not count.

    Returns:
        Share of sign patterns whose sum is at least as far from zero; 1.0 without differences.
    """
    values = np.array(list(differences), dtype=np.float64)
    if not len(values):
        return 1.0
    ours = np.column_stack([values, np.ones(len(values))])
    theirs = np.column_stack([np.zeros(len(values)), np.ones(len(values))])
    return exchange_p_value(ours, theirs, ratio_of_sums, resamples=_SAMPLED_SIGNS)


def _all_signs(n: int) -> Iterator[Floats]:
    """Yield every pattern up to a change of all signs, which turns the difference alone."""
    places = np.arange(n - 1)
    numbers: NDArray[np.int64] = np.arange(2 ** (n - 1), dtype=np.int64)
    bits = (numbers[:, None] >> places) & 1
    yield np.column_stack([np.ones(len(numbers)), 1.0 - 2.0 * bits])


def _draw_signs(n: int, count: int, seed: int) -> Iterator[Floats]:
    generator = np.random.default_rng(seed)
    at_once = max(1, _AT_ONCE // n)
    for start in range(0, count, at_once):
        drawn = generator.integers(0, 2, (min(at_once, count - start), n), dtype=np.int8)
        yield 1.0 - 2.0 * drawn.astype(np.float64)
