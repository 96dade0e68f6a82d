"""What a flow works with, before and after its rows are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from retune.model_records import ScoredModel
from retune.modeling.head_files import HEAD_FILE
from tasks.runs.stage_task import is_pending
from tests.tasks.conftest import MakeJob, with_rows


def test_labels_are_known_with_the_rows(make_job: MakeJob, tmp_path: Path) -> None:
    """A plan whose rows are new knows neither; nobody asks a record that is not there."""
    job = make_job()
    assert not job.rows_known and is_pending(job.labels)
    known = with_rows(job, tmp_path, ("good", "bad"))
    assert known.rows_known and known.labels == ("bad", "good")


@pytest.mark.parametrize(
    ("asked", "head", "form"),
    [("auto", False, "plain"), ("nf4", False, "nf4"), ("nf4", True, "plain")],
)
def test_without_a_plan_a_model_is_scored_in_the_form_that_the_recipe_asks_for(
    make_job: MakeJob, tmp_path: Path, asked: str, head: bool, form: str
) -> None:
    """Where sizes are not known, too; a head is never in 4 bits."""
    if head:
        (tmp_path / HEAD_FILE).write_text('{"labels": ["a", "b"]}', "utf-8")
    model = ScoredModel(digest="m", weights=tmp_path, tokenizer=tmp_path, adapter=tmp_path)
    found = make_job(scoring={"form": asked}).hold(model, adapted=True)
    assert found.form == form and (found == model) == (form == "plain")
