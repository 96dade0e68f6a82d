"""What an error on each class costs a classification head, and what such a head cannot learn.

Formula of ``balanced``: weight(label) = rows / (labels * rows of the label), over the training rows
with a label; their mean over those rows is 1. Agrees with scikit-learn's `compute_class_weight`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from retune.data.tables import iterate_rows
from retune.errors import ConfigError, DataError
from retune.records import SideRef

ClassWeights = Literal["none", "balanced"] | Mapping[str, float]
MIN_LABELS = 2


def count_labels(side: SideRef) -> Counter[str | None]:
    """Count a side's rows by label; None counts those without one."""
    return Counter(row["label"] for row in iterate_rows(side.folder / "rows.parquet", ["label"]))


def weigh_classes(
    setting: ClassWeights, labels: Sequence[str], counts: Mapping[str | None, int]
) -> dict[str, float] | None:
    """Return the weight of each class in the loss.

    Args:
        setting: The recipe's `head.class_weights`.
        labels: Names of all classes.
        counts: Training rows by label, from `count_labels`.

    Returns:
        Weights by label, in the labels' order; None where all count alike.

    Raises:
        ConfigError: Weights are given for other labels than the rows have.
        DataError: There are fewer than two labels, rows without one, or a label that no training
            row has.
    """
    check_labels_learnable(labels, counts)
    if setting == "none":
        return None
    if setting == "balanced":
        rows = sum(counts[label] for label in labels)
        return {label: rows / (len(labels) * counts[label]) for label in labels}
    _check_given(setting, labels)
    return {label: float(setting[label]) for label in labels}


def check_labels_learnable(labels: Sequence[str], counts: Mapping[str | None, int]) -> None:
    """Refuse rows that no head can be learned from.

    Args:
        labels: Names of all classes.
        counts: Training rows by label, from `count_labels`.

    Raises:
        DataError: There are fewer than two labels, rows without one, or a label that no training
            row has.
    """
    if len(labels) < MIN_LABELS:
        raise DataError(
            f"head: the rows have {len(labels)} labels ({', '.join(labels) or 'none'}), and a head "
            "tells at least two classes apart. Name the right column under data.columns.answer, or "
            "add rows of another class."
        )
    if counts.get(None, 0):
        raise DataError(
            f"head: {counts[None]:,} of {sum(counts.values()):,} training rows have no label, and "
            "a head learns from nothing else. Remove those rows, or remove head to let the model "
            "write."
        )
    absent = [label for label in labels if not counts.get(label, 0)]
    if absent:
        raise DataError(
            f"head: no training row has the label {', '.join(absent)}, so that a head could never "
            "name it. Add rows of it, raise the training side's share in split, or drop the rows "
            "that have it."
        )


def _check_given(setting: ClassWeights, labels: Sequence[str]) -> None:
    unknown = sorted(set(setting) - set(labels))
    absent = sorted(set(labels) - set(setting))
    if not unknown and not absent:
        return
    parts = [f"no row has the label {', '.join(unknown)}"] if unknown else []
    parts += [f"there is no weight for {', '.join(absent)}"] if absent else []
    raise ConfigError(
        f"head.class_weights: {', and '.join(parts)}. Expected a weight for each of "
        f"{', '.join(labels)}; or write balanced."
    )
