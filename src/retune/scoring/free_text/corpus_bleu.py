"""Corpus BLEU of sums over rows, so that it has an interval and a paired comparison like a mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NGRAMS = 4


def bleu_of_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return corpus BLEU of summed n-grams, as sacrebleu does with its smoothing `exp`.

    Args:
        sums: Shape ``(..., 10)``, columns in the order of `BLEU_COLUMNS`.

    Returns:
        Shape ``(...)``, 0 to 1; 0 where nothing matches.

    Example:
        >>> float(bleu_of_sums(np.array([5.0, 4, 3, 2, 5, 4, 3, 2, 5, 5])))
        1.0
    """
    sums = np.asarray(sums, dtype=np.float64)
    matches, ngrams = sums[..., :_NGRAMS], sums[..., _NGRAMS : 2 * _NGRAMS]
    ours, theirs = sums[..., -2], sums[..., -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        # The first length without a match counts as a half of one, the next as a quarter ...
        halved = 2.0 ** np.cumsum(matches == 0, axis=-1)
        precision = np.where(matches == 0, 1 / (halved * ngrams), matches / ngrams)
        geometric = np.exp(np.log(precision).mean(axis=-1))
        brevity = np.where(ours < theirs, np.exp(1 - theirs / ours), 1.0)
        score = brevity * geometric
    none = (matches.sum(axis=-1) == 0) | (ngrams == 0).any(axis=-1)
    return np.asarray(np.where(none, 0.0, score), dtype=np.float64)
