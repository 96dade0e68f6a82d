"""What can be asked of columns, wherever they lie: `in_memory` and `on_disk` answer alike.

Rows are compared by a few numbers each (hashes, labels, sides). A column is a numpy array of them.
Code that goes over a column does so by `blocks`, so that it needs no second column for what it
makes on the way; what needs all rows at once (equal hashes, the lowest of a class) is a method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

ABSENT = -1
"""Stands for the place of a row where there is none."""
BLOCK_ROWS = 65_536

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]


class Columns(ABC):
    """Makes columns, and answers what takes all their rows; use it as a context."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Give up all columns."""

    @abstractmethod
    def zeros(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Make a column, whose first dimension is the rows."""

    def filled(self, rows: int, value: Any, dtype: npt.DTypeLike) -> Array:
        """Make a column of one value."""
        made = self.zeros(rows, dtype)
        for block in self.blocks(rows):
            made[block] = value
        return made

    def absent(self, rows: int) -> Numbers:
        """Make a column of places without any."""
        return self.filled(rows, ABSENT, np.int64)

    def kept(self, column: Array, keep: Flags) -> Array:
        """Make a column of those rows of another that are kept."""
        made = self.zeros((self.count(keep), *column.shape[1:]), column.dtype)
        end = 0
        for block in self.blocks(len(column)):
            rows = column[block][keep[block]]
            made[end : end + len(rows)] = rows
            end += len(rows)
        return made

    @abstractmethod
    def release(self) -> None:
        """Let go of what was read and written of columns so far, as far as they lie elsewhere."""

    def blocks(self, rows: int) -> Iterator[slice]:
        """Yield the rows a block at a time; what a block took is released after it."""
        for start in range(0, rows, BLOCK_ROWS):
            yield slice(start, min(start + BLOCK_ROWS, rows))
            self.release()

    def places(self, rows: int, flags: Callable[[slice], Flags]) -> Iterator[int]:
        """Yield the rows of which something is true, in rising order.

        Args:
            rows: How many rows there are.
            flags: Tells it of the rows of a block.
        """
        for block in self.blocks(rows):
            yield from (np.flatnonzero(flags(block)) + block.start).tolist()

    def count_where(self, rows: int, flags: Callable[[slice], Flags]) -> int:
        """Count the rows of which something is true, as `places` yields them."""
        return sum(int(np.count_nonzero(flags(block))) for block in self.blocks(rows))

    def count(self, flags: Flags) -> int:
        """Count the places of a column that are true."""
        return self.count_where(len(flags), lambda block: flags[block])

    @abstractmethod
    def first_places(self, values: Hashes, parts: Array) -> Numbers:
        """Return for each row the first one of its part that has its value.

        Args:
            values: A value per row.
            parts: The number of its part per row; rows of two parts never equal each other.

        Returns:
            Places; `ABSENT` for a row that is the first itself.
        """

    @abstractmethod
    def first_equal(self, needles: Hashes, hay: Hashes) -> Numbers:
        """Return for each needle the first place in the hay that equals it.

        Args:
            needles: Values to look for; 0 equals nothing.
            hay: Values to look among.

        Returns:
            A place in `hay` per needle, or `ABSENT`.
        """

    @abstractmethod
    def conflicting(self, texts: Hashes, labels: Array, parts: Array) -> tuple[int, Flags]:
        """Find texts that stand with two labels or more in one part.

        Args:
            texts: Hash of each row's text.
            labels: Number of each row's label; rows below 0 have none and do not count.
            parts: The number of its part per row.

        Returns:
            How many texts there are (once per part), and which rows hold one.
        """

    @abstractmethod
    def choose_lowest(self, order: Hashes, classes: Array, quotas: Sequence[int]) -> Flags:
        """Choose of each class the rows that come first.

        Args:
            order: What rows are put in order by, the lowest first; of equal ones the earlier row.
            classes: Number of each row's class; rows below 0 are never chosen.
            quotas: How many rows of each class are chosen, or all where there are fewer.

        Returns:
            Whether a row is chosen.
        """

    @abstractmethod
    def largest(self, values: Hashes, parts: Array) -> tuple[int, int]:
        """Return the value that most rows have, of equally many the lowest, and their number.

        Args:
            values: A value per row.
            parts: Rows below 0 do not count.

        Returns:
            Value and number of rows; zeros without any row.
        """

    @abstractmethod
    def count_distinct(self, values: Hashes, parts: Array) -> int:
        """Count the values of the rows whose part is not below 0."""

    @abstractmethod
    def count_shared(self, values: Hashes, parts: Array) -> int:
        """Count the values that stand in more than one part; rows below 0 are in none."""

    @abstractmethod
    def shared(self, values: Hashes, parts: Array) -> Hashes:
        """Return the values that `count_shared` counts, in rising order, in memory."""
