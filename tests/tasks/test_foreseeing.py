"""What a run will write is asked of the stages that the store does not have, and of no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retune.errors import ArtifactError
from retune.modeling.memory.stage_sizes import StageSizes
from retune.preflight import disk_plan
from retune.preflight.forecast import TrainingForecast
from tasks import foreseeing
from tasks.foreseeing import plan_disk, refuse_unfit_disk
from tasks.runs.job import Job
from tests.retune.preflight.test_memory_plan import MB, SIZES, training
from tests.tasks.conftest import MakeJob, Told


@pytest.fixture
def job(make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A run that computes, of a model whose sizes are known."""
    monkeypatch.setattr(foreseeing, "measure_sizes", lambda *_: SIZES)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text('{"dtype": "float16"}', "utf-8")
    made = make_job(quantization={"kind": "nf4"}, method={"kind": "qlora"})
    return replace(made, run=replace(made.run, planning=False))


def forecast() -> TrainingForecast:
    return TrainingForecast(
        memory=training(),
        calibration=None,
        peak_bytes=1,
        capacity_bytes=2,
        steps=100,
        tokens=1,
    )


def test_the_stages_that_would_run_are_looked_up_and_not_shown(job: Job, told: Told) -> None:
    """The run's own lines stay as they were, and nothing is computed."""
    plan = plan_disk(job, forecast())
    assert plan is not None
    assert [each.stage for each in plan.stages] == [
        "quantize_model",
        "train_adapter",
        "merge_adapter",
    ]
    assert job.run.lines == []
    assert told.lines == []
    assert not list(job.run.store.root.glob("*/*.work"))


def test_checkpoints_that_lie_there_are_not_written_again(job: Job) -> None:
    """Of the work folder of a stage whose key is known, as a killed run leaves it."""
    run = replace(job.run, planning=True, lines=[])
    foreseeing.quantize_model(run, base=job.inputs.base, reference_text=job.inputs.reference_text)
    (line,) = run.lines
    scratch = job.run.store.root / line.name / f"{line.key}.work" / "scratch"
    scratch.mkdir(parents=True)
    (scratch / "half.safetensors").write_bytes(b"x" * 1000)
    assert foreseeing._written(job.run.store, line) == 1000


def test_a_plan_writes_nothing(job: Job) -> None:
    """There is nothing to foresee, and nothing to refuse."""
    planning = replace(job, run=replace(job.run, planning=True))
    assert plan_disk(planning, None) is None
    refuse_unfit_disk(planning, None)


def test_a_run_ends_before_it_fills_the_disk(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 6,000 MB of merged weights beside 2,000 quantized ones; and goes on where they fit."""
    refuse_unfit_disk(job, forecast())
    full: Any = type("usage", (), {"free": 8000 * MB})
    monkeypatch.setattr(disk_plan.shutil, "disk_usage", lambda _: full)
    with pytest.raises(ArtifactError, match="needs at least"):
        refuse_unfit_disk(job, forecast())


def test_sizes_that_are_not_known_refuse_nothing(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that cannot be counted may well be trained."""
    faulty = StageSizes(digest="s", scored={}, fault="cannot be followed")
    monkeypatch.setattr(foreseeing, "measure_sizes", lambda *_: faulty)
    plan = plan_disk(job, None)
    assert plan is not None
    assert plan.unknown == ("quantize_model", "train_adapter", "merge_adapter")
    assert plan.fits
