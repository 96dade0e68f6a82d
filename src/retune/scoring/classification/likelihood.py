"""Classification by the likelihood of each label's text after the prompt.

Formula: P(label | prompt) = softmax over labels of the summed log-likelihood of the label's tokens
(nats), the end token included, which makes it P(answer is exactly that label | answer is a label).
Length: the plain sum favours labels of few tokens only as far as the model does; `lengths` (tokens
or bytes of each label) divides it first, which is what to use where labels are much unlike in
length. The divided one is a score and no longer the model's probability: read its ECE, do not
expect it to be small.

The label with the largest score is predicted. Two that are nearer than 1e-6 nats are a tie: there
is no answer (None, counted as wrong and unparsable), since the order of labels must not decide. A
label of probability 0 (-inf) is allowed; NaN, or a row without any possible label, is an error.
Agrees with scipy.special.softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from retune.errors import ScoringError
from retune.scoring.resampling import Floats

Prompt = TypeVar("Prompt")
TIE_NATS = 1e-6
"""What is nearer than this is rounding, no preference."""


class LikelihoodPredictions(NamedTuple):
    """What the likelihoods say about each row."""

    predictions: list[str | None]
    probabilities: Floats
    """Shape ``(rows, labels)``."""

    ties: int
    """Rows without a prediction because two labels were equally likely."""


def classify_by_likelihood(
    prompts: Sequence[Prompt],
    labels: Sequence[str],
    log_likelihoods: Callable[[Sequence[Prompt], Sequence[str]], ArrayLike],
    *,
    lengths: ArrayLike | None = None,
) -> LikelihoodPredictions:
    """Ask a model how likely each label is after each prompt, and predict the likeliest.

    Args:
        prompts: In whatever form `log_likelihoods` understands.
        labels: All labels that the task has.
        log_likelihoods: Returns summed log-likelihoods (nats), shape ``(prompts, labels)``.
        lengths: Tokens or bytes of each label, shape ``(labels,)`` or ``(prompts, labels)``.

    Returns:
        Predictions, probabilities, and how many ties there were.

    Raises:
        ScoringError: The shape is another, a number is not one, or a length is not positive.
    """
    found = np.asarray(log_likelihoods(prompts, labels), dtype=np.float64)
    if found.shape != (len(prompts), len(labels)):
        raise ScoringError(
            f"Found log-likelihoods of shape {found.shape}; expected ({len(prompts)}, "
            f"{len(labels)}): one row per prompt and one column per label."
        )
    return predict_by_likelihood(found, labels, lengths=lengths)


def predict_by_likelihood(
    log_likelihoods: ArrayLike, labels: Sequence[str], *, lengths: ArrayLike | None = None
) -> LikelihoodPredictions:
    """Predict the likeliest label of each row.

    Args:
        log_likelihoods: Summed over each label's tokens (nats), shape ``(rows, labels)``.
        labels: In the columns' order.
        lengths: Tokens or bytes of each label, shape ``(labels,)`` or ``(rows, labels)``.

    Returns:
        Predictions, probabilities, and how many ties there were.

    Raises:
        ScoringError: The shape is another, a number is not one, or a length is not positive.
    """
    scores = _as_scores(log_likelihoods, lengths)
    if scores.shape[1] != len(labels):
        raise ScoringError(
            f"Found log-likelihoods of {scores.shape[1]} labels; expected {len(labels)}, one "
            "column per label."
        )
    best = scores.max(axis=1, keepdims=True)
    near = (scores >= best - TIE_NATS).sum(axis=1) > 1
    first = scores.argmax(axis=1)
    predictions = [None if near[at] else labels[number] for at, number in enumerate(first)]
    return LikelihoodPredictions(predictions, _softmax(scores), int(near.sum()))


def label_probabilities(log_likelihoods: ArrayLike, lengths: ArrayLike | None = None) -> Floats:
    """Turn log-likelihoods of labels into probabilities over them.

    Args:
        log_likelihoods: Summed over each label's tokens (nats), shape ``(rows, labels)``.
        lengths: Tokens or bytes of each label, shape ``(labels,)`` or ``(rows, labels)``.

    Returns:
        Shape ``(rows, labels)``; each row sums to 1.

    Raises:
        ScoringError: A number is NaN or infinite, or a length is not positive.
    """
    return _softmax(_as_scores(log_likelihoods, lengths))


def _as_scores(log_likelihoods: ArrayLike, lengths: ArrayLike | None) -> Floats:
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
    if lengths is None:
        return scores
    tokens = np.asarray(lengths, dtype=np.float64)
    if not (np.isfinite(tokens) & (tokens > 0)).all():
        raise ScoringError(f"Found the label lengths {tokens.tolist()}; expected numbers above 0.")
    return np.asarray(scores / tokens, dtype=np.float64)


def _softmax(scores: Floats) -> Floats:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), dtype=np.float64)
