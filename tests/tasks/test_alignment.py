"""What is trained after supervised fine-tuning, by the recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from retune.records import Source
from tasks.alignment import align_model, prepare_pairs
from tests.tasks.conftest import PENDING, UNKNOWN, MakeJob, labels_of, make_adapter


def test_without_preferences_and_rewards_the_adapter_stays(
    make_job: MakeJob, tmp_path: Path
) -> None:
    """Nothing runs."""
    job, adapter = make_job(), make_adapter(tmp_path)
    assert align_model(job, adapter, PENDING) is adapter
    assert not job.run.lines


def test_preferences_come_before_rewards(make_job: MakeJob, tmp_path: Path) -> None:
    """Each goes on from what the one before trained."""
    job = make_job(grpo={})
    job = replace(job, data=replace(UNKNOWN, pairs=PENDING))
    align_model(job, make_adapter(tmp_path), PENDING)
    assert labels_of(job) == ["train_preferences", "train_rewards"]
    assert "adapter" in job.run.lines[1].reason


def test_pairs_are_made_where_the_recipe_names_some(make_job: MakeJob) -> None:
    """The held-out side goes with them: no pair may ask what it asks."""
    job = make_job()
    assert prepare_pairs(job.run, job.inputs, PENDING) is None
    given: dict[str, Any] = {"pairs": Source(digest="p", path=Path("pairs.jsonl"))}
    paired = make_job(given=given)
    prepare_pairs(paired.run, paired.inputs, PENDING)
    assert [line.reason for line in paired.run.lines] == ["held_out will be new"]
