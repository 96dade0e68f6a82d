"""Tasks that let a model out."""

from __future__ import annotations

from retune.registry.stages import register_model as register_model_stage
from retune.release.stages import decide as decide_stage
from tasks.stage_task import StageTask

decide = StageTask(decide_stage)
register_model = StageTask(register_model_stage)
