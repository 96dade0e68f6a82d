"""What the owner of a training and its ranks tell each other, as files of one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

EVENTS = "events"
"""Pipe from the first rank: progress, metrics and log lines, one JSON object a line."""
OUTCOME = "outcome-{rank}.json"
"""A rank's record, or what it raised."""


class RankRequest(BaseModel):
    """What each rank is to do (`request.json`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    function: str
    """``module:name`` of what trains."""
    inputs_type: str
    inputs: dict[str, Any]
    settings_type: str
    settings: dict[str, Any]
    artifact: Path
    scratch: Path
    context: dict[str, str]
    ranks: int
    """How many there must be."""
