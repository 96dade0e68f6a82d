"""What a classifier has to beat: the majority class, and TF-IDF with logistic regression.

Both are fitted on training rows only and scored on the same held-out rows, by the same functions,
as the model that they stand beside. `majority` always answers the most frequent training label (of
equals, the first in the labels' order) with the shares of the training labels as probabilities.
`tfidf_logistic_regression`: words and word pairs (in 2 texts or more) and characters within words
(2 to 5, in 3 texts or more), logarithmic counts, logistic regression with C = 4, unbalanced. That
is scikit-learn's TfidfVectorizer and LogisticRegression with these settings; nothing is tuned,
since tuning would need a side of its own. Both are deterministic: no seed, no network.

Where training has one label only, or no term that often, there is no regression: its rows are
unscored (`baseline_one_label`, `baseline_no_terms`), not zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retune.errors import ScoringError
from retune.scoring.classification.records import ClassificationRow, ClassificationScores
from retune.scoring.classification.score import score_classification
from retune.scoring.uncertainty.resampling import RESAMPLES, Floats

MAJORITY = "majority"
TFIDF = "tfidf_logistic_regression"
_C = 4.0
_MAX_ITERATIONS = 1000
_MAX_CHARS = 20_000  # a text of a megabyte would be most of the vocabulary


class BaselinePredictions(NamedTuple):
    """What a baseline says about held-out texts."""

    predictions: list[str | None]
    probabilities: Floats | None
    """Shape ``(texts, labels)``."""

    unscored_reason: str | None = None
    """Why the baseline could not be fitted; the predictions are None then."""


def score_plain_classifiers(
    train_texts: Sequence[str],
    train_labels: Sequence[str],
    rows: Sequence[ClassificationRow],
    texts: Sequence[str],
    *,
    labels: Sequence[str],
    groups: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, ClassificationScores]:
    """Fit both baselines on training rows, and score them on held-out rows.

    Args:
        train_texts: What the model was trained on.
        train_labels: Their labels.
        rows: Held-out rows.
        texts: Their texts.
        labels: All labels that the task has.
        groups: What each held-out row shares with others; None stands for itself.
        resamples: Bootstrap draws.

    Returns:
        Scores by baseline: `majority`, `tfidf_logistic_regression`.

    Raises:
        ScoringError: There are no training rows, lengths differ, or a training label is none of
            the labels.
    """
    if len(rows) != len(texts):
        raise ScoringError(
            f"Found {len(rows)} held-out rows and {len(texts)} texts; expected one text per row."
        )
    found = {
        MAJORITY: predict_majority(train_labels, len(texts), labels),
        TFIDF: predict_tfidf(train_texts, train_labels, texts, labels),
    }
    return {
        name: score_classification(
            [_mark(row, baseline.unscored_reason) for row in rows],
            baseline.predictions,
            baseline.probabilities,
            groups,
            labels=labels,
            resamples=resamples,
        )
        for name, baseline in found.items()
    }


def predict_majority(
    train_labels: Sequence[str], n_texts: int, labels: Sequence[str]
) -> BaselinePredictions:
    """Answer every text with the most frequent training label.

    Args:
        train_labels: Labels of the training rows.
        n_texts: Held-out texts.
        labels: All labels that the task has.

    Returns:
        Predictions, and the shares of the training labels as probabilities.

    Raises:
        ScoringError: There are no training rows, or a label is none of the labels.
    """
    from sklearn.dummy import DummyClassifier

    numbers = _number_training(train_labels, len(train_labels), labels)
    nothing = np.zeros((max(len(numbers), n_texts), 1))
    dummy = DummyClassifier(strategy="prior").fit(nothing[: len(numbers)], numbers)
    return _read_predictions(dummy, nothing[:n_texts], labels)


def predict_tfidf(
    train_texts: Sequence[str],
    train_labels: Sequence[str],
    texts: Sequence[str],
    labels: Sequence[str],
) -> BaselinePredictions:
    """Fit TF-IDF with logistic regression on training texts, and predict held-out ones.

    Args:
        train_texts: Texts to fit on.
        train_labels: Their labels.
        texts: Held-out texts.
        labels: All labels that the task has.

    Returns:
        Predictions and probabilities; a label that training lacks has probability 0.

    Raises:
        ScoringError: There are no training rows, lengths differ, or a label is none of the labels.
    """
    from scipy.sparse import csr_array, hstack
    from sklearn.linear_model import LogisticRegression

    numbers = _number_training(train_labels, len(train_texts), labels)
    if len(set(numbers.tolist())) < 2:
        return _cannot_fit(len(texts), "baseline_one_label")
    sides = [
        [text[:_MAX_CHARS] for text in train_texts],
        [text[:_MAX_CHARS] for text in texts],
    ]
    pairs = [found for vectorizer in _vectorizers() if (found := _vectorize(vectorizer, *sides))]
    if not pairs:
        return _cannot_fit(len(texts), "baseline_no_terms")
    train, held_out = (csr_array(hstack(side)) for side in zip(*pairs, strict=True))
    regression = LogisticRegression(C=_C, max_iter=_MAX_ITERATIONS).fit(train, numbers)
    return _read_predictions(regression, held_out, labels)


def _vectorizers() -> list[Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return [
        TfidfVectorizer(analyzer="word", ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=3, sublinear_tf=True),
    ]


def _vectorize(vectorizer: Any, train: list[str], held_out: list[str]) -> tuple[Any, Any] | None:
    """Return both sides' terms; None where training has no term that is frequent enough."""
    if len(train) < vectorizer.min_df:
        return None
    try:
        terms = vectorizer.fit_transform(train)
    except ValueError as error:
        # scikit-learn has no other way to say that nothing is left; all else travels on.
        if "empty vocabulary" in str(error) or "no terms remain" in str(error):
            return None
        raise
    return terms, vectorizer.transform(held_out)


def _read_predictions(fitted: Any, features: Any, labels: Sequence[str]) -> BaselinePredictions:
    """Put a fitted model's probabilities into the labels' order."""
    n_texts = features.shape[0]
    probabilities = np.zeros((n_texts, len(labels)))
    if n_texts:
        probabilities[:, fitted.classes_] = fitted.predict_proba(features)
    best = probabilities.argmax(axis=1)
    return BaselinePredictions([labels[number] for number in best], probabilities)


def _cannot_fit(n_texts: int, reason: str) -> BaselinePredictions:
    return BaselinePredictions([None] * n_texts, None, reason)


def _mark(row: ClassificationRow, reason: str | None) -> ClassificationRow:
    if reason is None or row.unscored_reason:
        return row
    return row.model_copy(update={"unscored_reason": reason})


def _number_training(
    train_labels: Sequence[str], n_texts: int, labels: Sequence[str]
) -> NDArray[np.int64]:
    if not train_labels or len(train_labels) != n_texts:
        raise ScoringError(
            f"Found {n_texts} training texts and {len(train_labels)} labels; expected at least one "
            "text and one label for each."
        )
    others = sorted(set(train_labels) - set(labels))
    if others:
        raise ScoringError(
            f"Found {len(others)} training labels that are none of {list(labels)}, the first "
            f"{others[0]!r}; expected the task's labels. Leave such rows out of training."
        )
    places = {label: at for at, label in enumerate(labels)}
    return np.array([places[label] for label in train_labels], dtype=np.int64)
