"""What a flow works with, before and after its rows are known."""

from __future__ import annotations

from pathlib import Path

from tasks.stage_task import is_pending
from tests.tasks.conftest import MakeJob, with_rows


def test_labels_are_known_with_the_rows(make_job: MakeJob, tmp_path: Path) -> None:
    """A plan whose rows are new knows neither; nobody asks a record that is not there."""
    job = make_job()
    assert not job.rows_known and is_pending(job.labels)
    known = with_rows(job, tmp_path, ("good", "bad"))
    assert known.rows_known and known.labels == ("bad", "good")
