"""Tasks on weights."""

from __future__ import annotations

from retune.stages import MERGE_ADAPTER, QUANTIZE_MODEL, TRAIN_ADAPTER
from tasks.stage_task import StageTask

quantize_model = StageTask(QUANTIZE_MODEL)
train_adapter = StageTask(TRAIN_ADAPTER)
merge_adapter = StageTask(MERGE_ADAPTER)
