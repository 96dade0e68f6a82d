"""Classification by the likelihood of each label's text after the prompt.

Formula: P(label | prompt) = softmax over labels of the summed log-likelihood of the label's tokens
(nats), the end token included, which makes it P(answer is exactly that label | answer is a label).
The sum favours labels of few tokens only as far as the model does.

The label with the largest score is predicted. Two that are nearer than 1e-6 nats are a tie: there
is no answer (None, counted as wrong and unparsable), since the order of labels must not decide. A
label of probability 0 (-inf) is allowed; NaN, or a row without any possible label, is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from retune.errors import ScoringError

Floats = NDArray[np.float64]

TIE_NATS = 1e-6
"""What is nearer than this is rounding, no preference."""


class LikelihoodPredictions(NamedTuple):
    """What the likelihoods say about each row."""

    predictions: list[str | None]
    probabilities: Floats
    """Shape ``(rows, labels)``."""

    ties: int
    """Rows without a prediction because two labels were equally likely."""


def predict_by_likelihood(
    log_likelihoods: ArrayLike, labels: Sequence[str]
) -> LikelihoodPredictions:
    """Predict the likeliest label of each row.

    Args:
        log_likelihoods: Summed over each label's tokens (nats), shape ``(rows, labels)``.
        labels: In the columns' order.

    Returns:
        Predictions, probabilities, and how many ties there were.

    Raises:
        ScoringError: The shape is another, or a number is not one.

    Example:
        exp(ln 3) : exp(ln 1) = 3 : 1.

        >>> predict_by_likelihood([[np.log(3), 0.0]], ["a", "b"]).probabilities.round(12).tolist()
        [[0.75, 0.25]]
    """
    scores = _as_scores(log_likelihoods)
    if scores.shape[1] != len(labels):
        raise ScoringError(
            f"Found log-likelihoods of {scores.shape[1]} labels; expected {len(labels)}, one "
            "column per label."
        )
    best = scores.max(axis=1, keepdims=True)
    near = (scores >= best - TIE_NATS).sum(axis=1) > 1
    first = scores.argmax(axis=1)
    predictions = [None if near[at] else labels[number] for at, number in enumerate(first)]
    return LikelihoodPredictions(predictions, softmax(scores, axis=1), int(near.sum()))


def _as_scores(log_likelihoods: ArrayLike) -> Floats:
    scores = np.asarray(log_likelihoods, dtype=np.float64)
    if scores.ndim != 2 or not scores.shape[1]:
        raise ScoringError(
            f"Found log-likelihoods of shape {scores.shape}; expected one row per text and one "
            "column per label."
        )
    broken = np.isnan(scores).any(axis=1) | ~np.isfinite(scores.max(axis=1))
    if broken.any():
        row = int(np.flatnonzero(broken)[0])
        raise ScoringError(
            f"Found {int(broken.sum())} of {len(scores)} rows whose log-likelihoods are not "
            f"numbers, the first in row {row}: {scores[row].tolist()}; expected nats, at least one "
            "of each row finite. The model's weights may be broken."
        )
    return scores
