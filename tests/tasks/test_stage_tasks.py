"""All tasks that wrap a stage."""

from __future__ import annotations

import importlib
import pkgutil

import tasks
from retune.stages import STAGES
from tasks.champion import decide, register_model
from tasks.runs.stage_task import StageTask
from tasks.scoring import score_perplexity


def test_every_stage_of_the_table_is_a_task() -> None:
    """A stage that no flow can call would never run."""
    modules = [module.name for module in pkgutil.walk_packages(tasks.__path__, "tasks.")]
    found = {
        value.stage.name
        for name in modules
        for value in vars(importlib.import_module(name)).values()
        if isinstance(value, StageTask)
    }
    assert set(STAGES) <= found


def test_a_task_says_what_it_runs_and_whether_it_holds_the_device() -> None:
    """Prefect shows name and function, and limits what holds the device by a tag."""
    assert decide.task.name == "decide" and "decide, version" in (decide.task.description or "")
    assert "device" not in decide.task.tags and "device" in score_perplexity.task.tags
    assert register_model.task.retries == 2
