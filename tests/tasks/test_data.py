"""Rows of several sources: one stage each, named so that people tell them apart."""

from __future__ import annotations

from pathlib import Path

from retune.model_records import BaseRef
from tasks.data import clean_sources, format_sources, load_sources, retokenize_rows
from tests.tasks.conftest import PENDING, MakeJob, labels_of, locate, with_rows


def test_a_source_is_named_by_its_side_and_by_its_place_among_several(make_job: MakeJob) -> None:
    """Two to learn from, one held out."""
    job = make_job(locate(0), locate(1), locate(0, side="test"))
    load_sources(job.run, job.inputs, None)
    assert labels_of(job) == ["load_rows (train.0)", "load_rows (train.1)", "load_rows (test)"]


def test_only_rows_that_ask_about_databases_wait_for_them(make_job: MakeJob) -> None:
    """New databases leave rows of another format as they are."""
    job = make_job(locate(0), locate(1, "instruction"))
    load_sources(job.run, job.inputs, PENDING)
    assert [line.reason for line in job.run.lines] == ["databases will be new", "first run"]


def test_all_rows_are_cleaned_together(make_job: MakeJob) -> None:
    """One stage for two sources."""
    job = make_job(locate(0), locate(1))
    clean_sources(job.run, job.inputs, (PENDING, PENDING))
    assert labels_of(job) == ["clean_rows"]


def test_each_source_is_rendered_by_itself(make_job: MakeJob) -> None:
    """Under the names that it was read by."""
    job = make_job(locate(0), locate(0, side="test"))
    format_sources(job.run, job.inputs, (PENDING, PENDING), None, job.inputs.base)
    assert labels_of(job) == ["format_chat (train)", "format_chat (test)"]


def test_another_tokenizer_makes_other_chats_of_the_same_rows(
    make_job: MakeJob, tmp_path: Path
) -> None:
    """Rows and sides stay; a person is told, and the job as it was is left alone."""
    job = with_rows(make_job(), tmp_path)
    reader = BaseRef(
        digest="o", folder=tmp_path, model_id="o", revision=None, tokenizer_digest="other"
    )
    other = retokenize_rows(job, "the champion", reader)
    assert labels_of(job) == ["format_chat (train)", "prepare_sides"]
    assert other.data.split == job.data.split and other.data.chat is not job.data.chat
    assert other.run is job.run and job.rows_known and not other.rows_known
