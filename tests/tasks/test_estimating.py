"""What a training will need: asked before anything is paid, and told where it is not known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retune.errors import DoesNotFit
from retune.machine import find_device
from retune.modeling.memory.memory_estimate import TrainingEstimate
from retune.modeling.memory.stage_sizes import JudgeSizes
from retune.modeling.placement import StagePlaces
from retune.preflight.devices import share_rows
from retune.preflight.estimate_training import _on_one
from retune.preflight.forecast import StepTimes
from retune.preflight.stages import StageSizes
from retune.recipe.sections import TrainingConfig
from retune.scoring.judge.wording import locate_wording
from tasks import estimating, judging
from tasks.estimating import estimate_training, forecast_training, plan_memory, plan_scoring
from tasks.runs.job import Job
from tests.retune.preflight.test_memory_plan import plan, sized, training
from tests.tasks.conftest import MakeJob, Told, labels_of, locate, make_data, with_rows
from tests.tiny_models import REPOSITORY


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


@pytest.mark.parametrize(
    ("rows", "parts", "devices", "passing"),
    [(16, 1, 4, 4), (16, 2, 4, 4), (16, 8, 4, 2), (6, 3, 1, 2)],
)
def test_one_of_several_devices_takes_its_share_of_a_step(
    rows: int, parts: int, devices: int, passing: int
) -> None:
    """16 rows in 8 parts on 4 devices: each takes 4 rows in 2 parts, as in training."""
    whole = TrainingConfig(batch_size=rows, gradient_accumulation=parts)
    one = _on_one(whole, devices)
    assert one.rows_per_pass == passing
    shared = share_rows(whole, devices, kind="cpu")
    assert (one.rows_per_pass, one.gradient_accumulation) == (shared.rows_per_pass, shared.parts)


def test_the_estimate_is_told_how_many_devices_share_a_step(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else four devices would be counted with all rows each."""
    given: list[dict[str, Any]] = []
    found = TrainingEstimate(digest="e", memory=None, fault="none")
    monkeypatch.setattr(estimating, "estimate", lambda _, **more: given.append(more) or found)
    section = {"batch_size": 16, "devices": 4}
    estimate_training(with_rows(make_job(training=section), tmp_path))
    assert given[0]["devices"] == 4


def test_a_clusters_devices_are_more_than_this_machines(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight where two GPUs are seen: each is counted with an eighth of a step, two of them here."""
    given: list[dict[str, Any]] = []
    sizes = StageSizes.model_construct(scored={"plain": None}, written=None)
    monkeypatch.setattr("retune.preflight.devices.list_gpu_memories", lambda: (2**34,) * 2)
    found = TrainingEstimate(digest="e", memory=training("cpu"))
    monkeypatch.setattr(estimating, "estimate", lambda _, **more: given.append(more) or found)
    monkeypatch.setattr(estimating, "measure", lambda *_, **__: sizes)
    monkeypatch.setattr(estimating, "plan_stages", lambda *_, **more: given.append(more))
    monkeypatch.setattr("retune.preflight.forecast.count_sequences", lambda *_: 16)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}", "utf-8")
    job = make_job(
        runner={"kind": "ray", "address": "head:6379"},
        training={"batch_size": 16, "devices": 8, "sharding": "fsdp"},
        device={"memory": "64GB"},
    )
    job = with_rows(job, tmp_path)
    job = replace(job, run=replace(job.run, planning=False))
    forecast = estimate_training(job)
    assert forecast is not None and forecast.sharded
    plan_memory(job, forecast)
    assert given[0]["devices"] == 8
    assert [given[1][name] for name in ("devices", "here", "sharded")] == [8, 2, True]


def test_no_steps_are_timed_of_a_training_over_nodes(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be run in a temporary folder, which no other machine sees; a note says so."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors").touch()
    counted = TrainingEstimate(digest="e", memory=training("cpu"))
    monkeypatch.setattr(estimating, "estimate", lambda *_, **__: counted)
    monkeypatch.setattr(estimating, "look_at_plan", lambda *_, **__: None)
    monkeypatch.setattr("retune.preflight.forecast.count_sequences", lambda *_: 16)
    job = make_job(
        runner={"kind": "ray", "address": "head:6379"},
        training={"batch_size": 16, "devices": 8},
        device={"memory": "64GB"},
    )
    found, _ = forecast_training(with_rows(job, tmp_path), device=None, timed=True)
    assert found.times is None
    assert found.notes[-1].startswith("no steps were timed")


def test_what_only_a_training_needs_is_no_reason_to_refuse_scores(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights are merged beside 1,200 MB in RAM, of which there are 1,500 with the libraries."""
    found = plan("6GB", "1500MB")
    assert {each.stage for each in found.stages if not each.fits} >= {"merge_adapter"}
    monkeypatch.setattr(estimating, "look_at_plan", lambda *_, **__: found)
    job = with_rows(make_job(), tmp_path)
    with pytest.raises(DoesNotFit, match="merge_adapter needs"):
        plan_memory(job)
    planned = plan_scoring(job)
    assert planned.plan == found
    assert StagePlaces.read(planned.run.context) == found.places()


def test_steps_are_timed_as_planned(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quantizing reads the plain base first, which a small card does not hold whole."""
    seen: list[Job] = []

    def time_steps(job: Job) -> StepTimes:
        seen.append(job)
        return StepTimes(steps=4, seconds_per_step=1.0, peak_memory_bytes=1)

    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors").touch()
    counted = TrainingEstimate(digest="e", memory=training("cpu"))
    monkeypatch.setattr(estimating, "estimate", lambda *_, **__: counted)
    monkeypatch.setattr(estimating, "look_at_plan", lambda *_, **__: plan("6GB", "16GB"))
    monkeypatch.setattr(estimating, "_time_steps", time_steps)
    monkeypatch.setattr("retune.preflight.forecast.count_sequences", lambda *_: 2)
    job = with_rows(make_job(device={"memory": "64GB"}), tmp_path)
    forecast_training(job, device=None, timed=True)
    assert StagePlaces.read(seen[0].run.context).of("quantize_model").placement == "offloaded"


def test_only_what_is_judged_waits_for_the_size_of_a_judge(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge of this machine is counted for a run, and not for models that are only compared."""
    sizes = StageSizes(digest="s", scored={"plain": sized(600, 60, 50)})
    asked: list[object] = []

    def count(*_: object, **inputs: object) -> JudgeSizes:
        asked.append(inputs["judge"])
        return JudgeSizes(digest="j", asked=None, fault="its class has no such step")

    monkeypatch.setattr(estimating, "measure", lambda *_, **__: sizes)
    monkeypatch.setattr(judging, "measure_judge", count)
    monkeypatch.setattr(estimating, "plan_stages", lambda *_, **given: given["judge"])
    judge = str(REPOSITORY / "assets" / "base_tiny")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}", "utf-8")
    job = with_rows(
        make_job(
            locate(format_name="instruction"),
            given={"judge_wording": locate_wording(None, "en")},
            judge={"local": judge},
            scoring={"text_metrics": ["chrf"]},
        ),
        tmp_path,
    )
    look = estimating.look_at_plan
    assert look(job, find_device(), None, judged=False) is None and asked == []
    found: Any = look(job, find_device(), None, judged=True)
    assert found.fault == "its class has no such step" and len(asked) == 1
