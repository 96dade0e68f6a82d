"""What a run will write, stage by stage, and a refusal only of what surely does not fit."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from retune.errors import ArtifactError
from retune.model_records import BaseRef
from retune.modeling.memory.memory_estimate import FurtherEstimates
from retune.preflight.disk_plan import (
    DiskPlan,
    StageWrites,
    can_link,
    plan_disk,
    refuse_full_disk,
    say_disk,
)
from tests.retune.preflight.test_memory_plan import MB, SIZES, recipe, training

ALL = ("quantize_model", "train_adapter", "train_preferences", "train_rewards", "merge_adapter")


@pytest.fixture
def base(tmp_path: Path) -> BaseRef:
    """A base that is stored in bfloat16."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"dtype": "bfloat16"}), "utf-8")
    return BaseRef(digest="b", folder=folder, model_id="m", revision=None, tokenizer_digest="t")


def planned(
    base: BaseRef, to_run: dict[str, int] | None = None, steps: int = 100, **sections: Any
) -> DiskPlan:
    return plan_disk(
        recipe(**sections),
        base,
        dict.fromkeys(ALL, 0) if to_run is None else to_run,
        base.folder.parent / "store",
        steps=steps,
        training=training(),
        further=FurtherEstimates(digest="f", preferences=training()),
        sizes=SIZES,
    )


def sizes_of(plan: DiskPlan) -> dict[str, tuple[int, int]]:
    return {each.stage: (each.stays // MB, each.passing // MB) for each in plan.stages}


def test_each_stage_is_counted_by_what_it_writes(base: BaseRef) -> None:
    """12,000 MB in float32 are 6,000 merged; a checkpoint is 40 of an adapter and 20 of Adam.

    Of four evaluations three checkpoints are there at once, and 40 MB of the best weights.
    """
    assert sizes_of(planned(base)) == {
        "quantize_model": (2000, 0),
        "train_adapter": (40, 3 * 60 + 40),
        "merge_adapter": (6000, 0),
    }


@pytest.mark.parametrize(
    ("section", "passing"),
    [
        ({"evaluations": 1}, 60 + 40),
        ({"evaluations": 0}, 60),
        ({"evaluations": 2, "keep_best": False}, 2 * 60),
        ({"evaluations": 1, "checkpoint_every_steps": 10}, 3 * 60 + 40),
    ],
)
def test_checkpoints_are_as_many_as_lie_there_at_once(
    base: BaseRef, section: dict[str, Any], passing: int
) -> None:
    """No more than the training saves: 100 steps, at each evaluation or as often as it says."""
    assert sizes_of(planned(base, training=section))["train_adapter"] == (40, passing)


def test_what_the_store_has_is_not_written_again(base: BaseRef) -> None:
    """Of a training that was killed the checkpoints that lie there are not either."""
    plan = planned(base, {"train_adapter": 50 * MB, "merge_adapter": 0})
    assert sizes_of(plan) == {"train_adapter": (40, 220 - 50), "merge_adapter": (6000, 0)}
    assert planned(base, {}).needed_bytes == 0


def test_the_merge_has_the_type_that_the_recipe_names(base: BaseRef) -> None:
    """Else that of the base, which may say so of its text model alone."""
    assert sizes_of(planned(base, merge={"dtype": "float32"}))["merge_adapter"] == (12_000, 0)
    config = {"text_config": {"torch_dtype": "float16"}}
    (base.folder / "config.json").write_text(json.dumps(config), "utf-8")
    assert sizes_of(planned(base))["merge_adapter"] == (6000, 0)
    (base.folder / "config.json").write_text("{}", "utf-8")
    assert sizes_of(planned(base))["merge_adapter"] == (12_000, 0)


def test_the_most_at_once_is_what_stays_and_one_stage_at_work(base: BaseRef) -> None:
    """100 stay; then 100 + 900 of checkpoints are more than 100 + 10 + 400 of merged weights."""
    stages = (
        StageWrites(stage="quantize_model", stays=100),
        StageWrites(stage="train_adapter", stays=10, passing=900),
        StageWrites(stage="merge_adapter", stays=400),
    )
    plan = DiskPlan(folder=base.folder, free_bytes=999, stages=stages)
    assert plan.needed_bytes == 1000
    assert not plan.fits
    assert plan.model_copy(update={"free_bytes": 1000}).fits
    assert plan.model_copy(update={"stages": stages[::2]}).needed_bytes == 500


def test_mlflow_has_a_copy_where_there_are_no_hard_links(
    base: BaseRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of a version are links where the file system has them."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    assert "register_model" not in sizes_of(planned(base))
    assert can_link(base.folder.parent / "store" / "not" / "there")
    monkeypatch.setattr(os, "link", refuse)
    assert not can_link(base.folder)
    assert sizes_of(planned(base))["register_model"] == (6000, 0)
    assert not list(base.folder.parent.glob(".retune-*"))


def test_what_cannot_be_counted_is_named_and_refuses_nothing(base: BaseRef) -> None:
    """Rewards were not counted, and of a head's model no sizes are known."""
    plan = planned(base, dpo={"pairs": "p.jsonl"}, grpo={})
    assert sizes_of(plan)["train_preferences"] == (40, 60)
    assert plan.unknown == ("train_rewards",)
    assert "train_rewards not counted" in say_disk(plan)
    bare = plan_disk(
        recipe(), base, dict.fromkeys(ALL, 0), base.folder, steps=None, training=None,
        further=None, sizes=None,
    )  # fmt: skip
    assert bare.unknown == ("quantize_model", "train_adapter", "merge_adapter")
    refuse_full_disk(bare)


def test_a_run_that_surely_fills_the_disk_is_refused(
    base: BaseRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a byte, with each stage's part and what to do: exit code 4."""
    needed = planned(base).needed_bytes
    assert needed == (2000 + 40 + 6000) * MB
    usage = namedtuple("usage", "total used free")
    for free in (needed, needed - 1):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(0, 0, free))
        if free == needed:
            refuse_full_disk(planned(base))
            continue
        with pytest.raises(ArtifactError) as caught:
            refuse_full_disk(planned(base))
    assert caught.value.exit_code == 4
    for part in (
        "at least 7.49 GiB at once",
        "merge_adapter 5.59 GiB",
        "3 checkpoints of 57.2 MiB",
    ):
        assert part in caught.value.message
    assert "retune gc" in caught.value.message
