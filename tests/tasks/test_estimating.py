"""What a training will need: asked before anything is paid, and told where it is not known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retune.modeling.memory.memory_estimate import TrainingEstimate
from tasks import estimating
from tasks.estimating import estimate_training
from tests.tasks.conftest import MakeJob, Told, labels_of, locate, make_data, with_rows


def test_a_plan_looks_for_the_estimate_of_rows_that_it_does_not_know(make_job: MakeJob) -> None:
    job = make_job()
    assert estimate_training(job) is None
    assert labels_of(job) == ["estimate_training"]


def test_a_head_is_not_refused_by_what_a_writer_takes(make_job: MakeJob) -> None:
    """Nor is anything counted for it."""
    job = make_job(locate(format_name="text_label"), head={})
    assert estimate_training(job) is None
    assert labels_of(job) == []


def test_nothing_is_counted_without_rows_to_learn_from(make_job: MakeJob, tmp_path: Path) -> None:
    data = make_data(tmp_path)
    chat = data.chat.model_copy(update={"train": 0})
    job = replace(make_job(), data=replace(data, chat=chat))
    assert estimate_training(job) is None
    assert labels_of(job) == []


def test_a_model_that_cannot_be_counted_is_trained_and_the_reason_told(
    make_job: MakeJob, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = TrainingEstimate(digest="e", memory=None, fault="its class has no such step")
    monkeypatch.setattr(estimating, "estimate", lambda *_, **__: found)
    job = with_rows(make_job(), tmp_path)
    job = replace(job, run=replace(job.run, planning=False))
    assert estimate_training(job) is None
    assert told.notes == ["memory is not estimated: its class has no such step"]


def test_the_time_of_a_step_is_the_mean_between_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends at 10, 11 and 14 s: (14 - 10) / 2. The first step, which warms up, is not in it."""
    ends: Iterator[Any] = iter([10.0, 11.0, 14.0])
    monkeypatch.setattr(estimating, "time", SimpleNamespace(perf_counter=lambda: next(ends)))
    clock = estimating._StepClock()
    for done in range(1, 4):
        clock.progress("train_adapter", "steps", done, 3)
        clock.progress("train_adapter", "rows", done, 3)  # no step: its end is not noted
    assert clock.seconds_per_step() == 2.0
