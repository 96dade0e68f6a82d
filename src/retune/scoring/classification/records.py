"""What goes into the classification scorer and what comes out."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from retune.scoring.uncertainty.estimates import Estimate


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassificationRow(_Record):
    """One row's right label."""

    row_id: str
    gold: str | None
    """None where the row has no label: it is unscored (`gold_missing`)."""

    unscored_reason: str | None = None
    """Why the model could not be asked (`prompt_too_long`, say); the row is in no figure."""


class ClassificationOutcome(_Record):
    """What one prediction scored. None means that it could not be scored, never zero."""

    row_id: str
    group: str | None
    gold: str | None
    predicted: str | None
    """None where no label could be read: wrong, and counted as unparsable."""

    correct: bool | None
    confidence: float | None = None
    """Largest probability of a label; None where there are no probabilities."""

    unscored_reason: str | None = None
    """Why `correct` is None: `gold_missing`, `gold_not_a_label`, or the row's own reason."""


class ClassScores(_Record):
    """One label's figures over the scored rows."""

    label: str
    support: int
    """Rows whose gold is this label."""

    predicted: int
    """Rows that were predicted to be this label."""

    precision: float | None
    """None where the label was never predicted."""

    recall: float | None
    """None where no row has the label."""

    f1: Estimate
    """Value None where no row has the label."""


class ClassificationScores(_Record):
    """All rows' outcomes and the figures over them."""

    labels: tuple[str, ...]
    outcomes: tuple[ClassificationOutcome, ...]
    estimates: dict[str, Estimate]
    """`macro_f1` (the headline), `weighted_f1`, `accuracy`, `balanced_accuracy`, `mcc`,
    `unparsable_rate`; with probabilities also `ece`, `brier`, `brier_of_top`."""

    per_class: tuple[ClassScores, ...]
    """In the order of `labels`."""

    confusion: tuple[tuple[int, ...], ...]
    """One row per gold label; one column per predicted label, and unparsable last."""

    labels_without_rows: tuple[str, ...]
    """Labels that no scored row has: they are in no average."""

    unscored_by_reason: dict[str, int]
