"""Tasks on rows."""

from __future__ import annotations

from retune.stages import FORMAT_CHAT, LOAD_ROWS, SPLIT_ROWS
from tasks.stage_task import StageTask

load_rows = StageTask(LOAD_ROWS)
split_rows = StageTask(SPLIT_ROWS)
format_chat = StageTask(FORMAT_CHAT)
