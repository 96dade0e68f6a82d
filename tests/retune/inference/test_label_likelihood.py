"""From log-likelihoods of labels to probabilities and predictions."""

import math

import numpy as np
import pytest

from retune.errors import ScoringError
from retune.inference.label_likelihood import predict_by_likelihood


def test_probabilities_by_hand() -> None:
    """exp(ln 3) : exp(ln 1) = 3 : 1, also where both likelihoods are too small to write down."""
    found = predict_by_likelihood(
        [[math.log(3), 0.0], [math.log(3) - 5000, -5000.0]], ["a", "b"]
    ).probabilities
    assert found == pytest.approx(np.array([[0.75, 0.25]] * 2), abs=1e-12)


def test_a_tie_has_no_answer() -> None:
    """The order of labels must not decide; a near miss is decided."""
    found = predict_by_likelihood([[-1.0, -1.0, -5.0], [-1.0, -1.0 - 1e-5, -5.0]], list("abc"))
    assert (found.predictions, found.ties) == ([None, "a"], 1)
    assert found.probabilities[0, 0] == found.probabilities[0, 1]


def test_an_impossible_label_has_probability_zero() -> None:
    found = predict_by_likelihood([[-math.inf, -2.0]], ["a", "b"])
    assert found.predictions == ["b"]
    assert found.probabilities.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("row", [[math.nan, -1.0], [-math.inf, -math.inf], [math.inf, -1.0]])
def test_what_is_no_likelihood_is_an_error(row: list[float]) -> None:
    with pytest.raises(ScoringError, match=r"1 of 2 rows .* first in row 1"):
        predict_by_likelihood([[-1.0, -2.0], row], ["a", "b"])


def test_as_many_columns_as_labels_are_expected() -> None:
    with pytest.raises(ScoringError, match="2 labels; expected 3"):
        predict_by_likelihood([[-1.0, -2.0]], ["a", "b", "c"])
