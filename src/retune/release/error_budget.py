"""What a set of held-out rows may still be asked, in numbers and in words."""

from __future__ import annotations

import math

from retune.records import Record

_ROUNDING = 1e-9  # shares are added up as floats


def count_left(error: float, decisions: int, spent: float) -> int:
    """Return how many shares of an error are left.

    Args:
        error: Chance of error that is parted.
        decisions: In how many shares.
        spent: What is gone of it.
    """
    return max(0, math.floor((error - spent) * decisions / error + _ROUNDING))


class ErrorBudget(Record):
    """What a set of held-out rows may still be asked."""

    rows: int
    error: float
    """`gate.error`: chance of one false promotion or more, over all decisions."""
    decisions: int
    """`gate.decisions_per_test_set`."""
    spent: float
    """What earlier decisions took of `error`, on the rows that are still there."""
    alpha: float
    """Level of the next decision, that of its two-sided paired interval; 0: none is left."""
    asked_before: bool = False
    """Whether the decision was taken before, at this level, so that it spends nothing."""
    over_cases: bool = False
    """Whether `rows` counts cases of probes: a figure over these decides."""

    @property
    def left(self) -> int:
        """How many more decisions may end without a promotion."""
        return count_left(self.error, self.decisions, self.spent)

    @property
    def used_up(self) -> bool:
        """Whether nothing can be promoted on these rows any more."""
        return self.alpha <= 0

    def rows_to_add(self) -> int | None:
        """Return how many new rows, beside the old ones, make room for one more decision.

        With m more, each earlier decision counts rows / (rows + m) of what it did.

        Returns:
            At least 1; None where only other rows can help: the error is not parted.
        """
        allowed = self.error * (1 - 1 / self.decisions)
        if allowed <= 0:
            return None
        return max(1, math.ceil(self.rows * (self.spent / allowed - 1) - _ROUNDING))

    def describe(self) -> str:
        """Say in one line which decision is next, at which level, and what is left of the error."""
        rows = f"{self.rows:,} {'cases of probes' if self.over_cases else 'held-out rows'}"
        if self.asked_before:
            return (
                f"a decision that was taken before on these {rows}, at level {self.alpha:.2g}; "
                f"it spends nothing, and {self._describe_rest()}"
            )
        if self.used_up:
            return (
                f"these {rows} are worn out: {self.decisions} decisions (gate.decisions_per_test_"
                f"set) have spent the error of {self.error:g} (gate.error), and nothing can be "
                f"promoted on them. {self._ask_for_rows()}"
            )
        return (
            f"decision {self.decisions - self.left + 1} of {self.decisions} on these {rows}: "
            f"intervals of {100 * (1 - self.alpha):.4g} % (level {self.alpha:.2g}); "
            f"{self._describe_rest()}"
        )

    def _describe_rest(self) -> str:
        return f"{max(0.0, self.error - self.spent):.2g} of the error of {self.error:g} is left"

    def _ask_for_rows(self) -> str:
        added = self.rows_to_add()
        some = "" if added is None else f"{added:,} more for one more decision, "
        if self.over_cases:
            return (
                f"Write fresh cases: {some}{self.rows:,} others in their place for "
                f"{self.decisions} (probes.file), or let a figure over rows decide (gate.metric)"
            )
        return (
            f"Hold out fresh rows: {some}{self.rows:,} others in their place for {self.decisions} "
            "(data.test, or split.test_fraction and split.max_test_rows)"
        )
