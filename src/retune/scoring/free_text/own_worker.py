"""The process in which a team's own metric runs: it may hang, die, or write to standard output.

It reads one JSON request a line and answers one. It has the run's own rights, environment and
import path, as that code always had; only its time is bounded, by whoever asks.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from retune.errors import ScoringError
from retune.records import Source
from retune.scoring.free_text.own import OwnMetric
from retune.scoring.free_text.shipped import Text
from retune.spine.children import die_with

Reply = dict[str, Any]


class _Asked:
    """The metric, once it is loaded."""

    def __init__(self) -> None:
        self._metric: OwnMetric | None = None

    def answer(self, request: dict[str, Any]) -> Reply:
        """Load the metric, or score one answer."""
        if self._metric is None:
            source = Source(digest="", path=Path(request["folder"]))
            try:
                self._metric = OwnMetric(request["figure"], source, request["result"])
            except ScoringError as error:
                return {"status": "failed", "detail": str(error)}
            return {"status": "ok"}
        found = self._metric.score(Text(request["answer"], request["references"]))
        return {"status": "ok", "value": found.value, "reason": found.reason}


def main() -> None:
    """Answer requests until standard input ends."""
    die_with(int(sys.argv[1]))
    # What the metric prints goes where errors go, and not among the answers.
    with os.fdopen(os.dup(1), "w", encoding="ascii") as answers:
        os.dup2(2, 1)
        asked = _Asked()
        _say(answers, {"status": "ready"})
        for line in sys.stdin.buffer:
            _say(answers, asked.answer(json.loads(line)))


def _say(answers: Any, reply: Reply) -> None:
    answers.write(json.dumps(reply) + "\n")
    answers.flush()
