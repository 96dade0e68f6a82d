"""Columns as arrays in memory, and answers by sorting them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from retune.data.columns.contract import ABSENT, Array, Columns, Flags, Hashes, Numbers


class ColumnsInMemory(Columns):
    """Columns that take the memory of all their rows."""

    def close(self) -> None:
        """See `Columns`: nothing is held here."""

    def release(self) -> None:
        """See `Columns`: they lie nowhere else."""

    def zeros(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """See `Columns`."""
        return np.zeros(shape, dtype)

    def first_places(self, values: Hashes, parts: Array) -> Numbers:
        """See `Columns`."""
        found = np.full(len(values), ABSENT, np.int64)
        for part in np.unique(parts):
            rows = np.flatnonzero(parts == part)
            _, first, which = np.unique(values[rows], return_index=True, return_inverse=True)
            firsts = rows[first][which]
            found[rows] = np.where(firsts == rows, ABSENT, firsts)
        return found

    def first_equal(self, needles: Hashes, hay: Hashes) -> Numbers:
        """See `Columns`."""
        values, first = np.unique(hay, return_index=True)
        if not len(values):
            return np.full(len(needles), ABSENT, np.int64)
        at = np.minimum(np.searchsorted(values, needles), len(values) - 1)
        found = (values[at] == needles) & (needles != 0)
        return np.where(found, first[at], ABSENT).astype(np.int64)

    def conflicting(self, texts: Hashes, labels: Array, parts: Array) -> tuple[int, Flags]:
        """See `Columns`."""
        found, rows_at_fault = 0, np.zeros(len(texts), dtype=np.bool_)
        for part in np.unique(parts):
            rows = np.flatnonzero((parts == part) & (labels >= 0))
            if rows.size:
                _, text = np.unique(texts[rows], return_inverse=True)
                pairs = np.unique(np.stack([text, labels[rows]], axis=1), axis=0)
                counts = np.bincount(pairs[:, 0])
                found += int((counts > 1).sum())
                rows_at_fault[rows] = counts[text] > 1
        return found, rows_at_fault

    def choose_lowest(self, order: Hashes, classes: Array, quotas: Sequence[int]) -> Flags:
        """See `Columns`."""
        chosen = np.zeros(len(order), dtype=np.bool_)
        drawn = np.flatnonzero(classes >= 0)
        drawn = drawn[np.argsort(order[drawn], kind="stable")]
        for number, quota in enumerate(quotas):
            chosen[drawn[classes[drawn] == number][:quota]] = True
        return chosen

    def largest(self, values: Hashes, parts: Array) -> tuple[int, int]:
        """See `Columns`."""
        found, counts = np.unique(values[parts >= 0], return_counts=True)
        if not len(found):
            return 0, 0
        return int(found[np.argmax(counts)]), int(counts.max())

    def count_distinct(self, values: Hashes, parts: Array) -> int:
        """See `Columns`."""
        return len(np.unique(values[parts >= 0]))

    def count_shared(self, values: Hashes, parts: Array) -> int:
        """See `Columns`."""
        return len(self.shared(values, parts))

    def shared(self, values: Hashes, parts: Array) -> Hashes:
        """See `Columns`."""
        each = [np.unique(values[parts == part]) for part in np.unique(parts[parts >= 0])]
        if not each:
            return np.zeros(0, np.uint64)
        found, counts = np.unique(np.concatenate(each), return_counts=True)
        return np.asarray(found[counts > 1], np.uint64)
