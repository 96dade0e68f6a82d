"""Names under which MLflow shows a run."""

from __future__ import annotations

import pytest

from retune.release.run_figures import entry_name, list_decided
from retune.score_records import Comparison, GateDecision, GuardFinding, SliceFinding


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("score_sql (base)", "score_sql.base"),
        ("load_rows (train.0)", "load_rows.train.0"),
        ("score_labels (a,b@c)", "score_labels.a_b_c"),
    ],
)
def test_a_label_becomes_a_name_that_mlflow_takes(text: str, name: str) -> None:
    """Brackets become a dot; a sign that MLflow refuses becomes an underscore."""
    assert entry_name(text) == name


def test_guards_and_parts_are_figures_of_the_run() -> None:
    """With what they were held against; a difference that is not known has no figure."""
    shared = {"difference": -0.1, "low": -0.2, "high": 0.0, "p_value": 0.04, "n": 9}
    known = {**shared, "verdict": "worse", "against": "champion"}
    decision = GateDecision(
        digest="d",
        promote=False,
        reasons=(),
        comparisons=(Comparison(metric="accuracy", **known | {"low": None, "high": None}),),
        guards=(GuardFinding(metric="flip_rate", margin=0.05, holds=False, **known),),
        slices=(
            SliceFinding(
                metric="accuracy", by="label", part="spam", rows=9, refuses=True, lost=1,
                first=("r1",), **known,
            ),
        ),
    )  # fmt: skip
    assert list_decided(decision) == {
        "gain.champion.accuracy": -0.1,
        "guard.flip_rate": -0.1,
        "guard.flip_rate.low": -0.2,
        "guard.flip_rate.high": 0.0,
        "guard.flip_rate.margin": 0.05,
        "guard.flip_rate.holds": 0.0,
        "slice.label.spam": -0.1,
        "slice.label.spam.low": -0.2,
        "slice.label.spam.high": 0.0,
        "slice.label.spam.rows": 9.0,
        "slice.label.spam.refuses": 1.0,
    }
