"""What an error on each class costs, and rows that no head can be learned from."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from retune.errors import ConfigError, DataError
from retune.training.class_weights import weigh_classes

LABELS = ("ham", "spam")
COUNTS: dict[str | None, int] = {"ham": 6, "spam": 2}


def test_balanced_weights_are_those_of_the_formula() -> None:
    """8 rows, 2 labels: 8 / (2 * 6) = 2/3 and 8 / (2 * 2) = 2; scikit-learn says the same."""
    found = weigh_classes("balanced", LABELS, COUNTS)
    assert found == {"ham": 8 / 12, "spam": 2.0}
    gold = ["ham"] * 6 + ["spam"] * 2
    reference = compute_class_weight("balanced", classes=np.array(LABELS), y=gold)
    assert list(found.values()) == pytest.approx(list(reference))


def test_given_weights_come_in_the_order_of_the_labels() -> None:
    """Whatever the recipe's order was; none leaves the loss as it is."""
    assert list(weigh_classes({"spam": 3.0, "ham": 1.0}, LABELS, COUNTS) or {}) == ["ham", "spam"]
    assert weigh_classes("none", LABELS, COUNTS) is None


def test_every_label_needs_a_weight_and_no_other_has_one() -> None:
    """Both are said at once, with the labels that there are."""
    with pytest.raises(ConfigError, match=r"no row has the label eggs.*no weight for spam"):
        weigh_classes({"ham": 1.0, "eggs": 2.0}, LABELS, COUNTS)


@pytest.mark.parametrize(
    ("labels", "counts", "said"),
    [
        (("ham",), {"ham": 6}, "at least two"),
        (LABELS, {"ham": 6, "spam": 1, None: 3}, "3 of 10 training rows have no label"),
        (LABELS, {"ham": 6}, "no training row has the label spam"),
    ],
)
def test_rows_that_teach_no_head_are_refused(
    labels: tuple[str, ...], counts: dict[str | None, int], said: str
) -> None:
    """One class, rows without labels, a class that no training row has."""
    with pytest.raises(DataError, match=said):
        weigh_classes("none", labels, counts)
