"""Texts that stand with two labels: nobody can learn both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retune.data.quality.looking import Facts


def find_conflicts(facts: Facts) -> tuple[int, NDArray[np.bool_]]:
    """Find rows whose folded text stands with another label elsewhere.

    Args:
        facts: Hashes and labels; held-out rows are compared among themselves.

    Returns:
        How many texts have two labels or more, and which rows hold them.
    """
    texts, rows_at_fault = 0, np.zeros(len(facts), dtype=np.bool_)
    for held_out in (False, True):
        rows = np.flatnonzero((facts.held_out == held_out) & (facts.label >= 0))
        _, text = np.unique(facts.folded[rows], return_inverse=True)
        pairs = np.unique(np.stack([text, facts.label[rows]], axis=1), axis=0)
        labels = np.bincount(pairs[:, 0], minlength=1)
        texts += int((labels > 1).sum())
        if rows.size:
            rows_at_fault[rows] = labels[text] > 1
    return texts, rows_at_fault
