"""What a run reports of its rows and of itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retune.errors import DataError
from tasks.reporting import data_report_folder, refuse_data, report_data, report_run
from tests.tasks.conftest import PENDING, MakeJob, locate, make_data, with_rows


def test_a_plan_without_rows_reports_nothing(make_job: MakeJob) -> None:
    """Neither of rows that are not there, nor at its end."""
    job = make_job()
    report_data(job)
    nothing: Any = {"base": PENDING}
    end: Any = {"models": (PENDING,) * 3, "scores": nothing, "release": (PENDING,) * 2}
    assert report_run(job, **end, baselines=None, estimated=None, budget=None, power=None) is None
    assert not (job.run.store.root / "reports").exists()


def test_equal_rows_have_one_report(make_job: MakeJob, tmp_path: Path) -> None:
    """Its folder is named by what the rows are, and not by when they were looked at."""
    job = with_rows(make_job(), tmp_path)
    other = make_data(tmp_path)
    other = replace(other, clean=other.clean.model_copy(update={"digest": "other"}))
    assert data_report_folder(job) == data_report_folder(with_rows(job, tmp_path))
    assert data_report_folder(job) != data_report_folder(replace(job, data=other))


def test_rows_of_one_label_are_refused(make_job: MakeJob, tmp_path: Path) -> None:
    """There is nothing to tell apart."""
    job = make_job(locate(format_name="text_label"))
    one = make_data(tmp_path, ("spam",))
    labelled = one.rows[0].model_copy(update={"format": "text_label"})
    with pytest.raises(DataError, match="spam"):
        refuse_data(replace(job, data=replace(one, rows=(labelled,))))
    refuse_data(with_rows(make_job(), tmp_path))
