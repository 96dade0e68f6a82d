"""Tasks that let a model out."""

from __future__ import annotations

from retune.stages import DECIDE, REGISTER_MODEL
from tasks.stage_task import StageTask

decide = StageTask(DECIDE)
register_model = StageTask(REGISTER_MODEL)
