"""Names under which MLflow shows a run."""

from __future__ import annotations

import pytest

from retune.release.run_figures import entry_name


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
