"""Numbers of rows as tables that can be summed, and one group for each row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from retune.errors import ScoringError
from retune.scoring.uncertainty.resampling import Floats


def check_groups(n: int, groups: Sequence[str | None] | None) -> list[str | None]:
    """Return one group per row, as they are: which rows are alone is for those that are scored.

    Args:
        n: Rows.
        groups: What each row shares with others; without any, every row stands for itself.

    Raises:
        ScoringError: There are not as many groups as rows.
    """
    if groups is None:
        return [None] * n
    if len(groups) != n:
        raise ScoringError(f"Found {n} rows and {len(groups)} groups; expected one group per row.")
    return list(groups)


def as_table(numerators: ArrayLike, denominators: ArrayLike | None = None) -> Floats:
    """Return numbers of rows as a table whose sums over rows make a figure.

    Args:
        numerators: One per row, or a table ``(rows, columns)``, which stays as it is.
        denominators: One per row; each row counts 1 without them.

    Raises:
        ScoringError: Lengths differ, or a number is not finite.
    """
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
