"""`metrics.jsonl`: the truth about a training's curves, which MLflow mirrors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the points of a training's curves.

    Args:
        path: `metrics.jsonl`; need not exist.

    Returns:
        One mapping ``{"name", "value", "step"}`` per line, up to a line that a crash cut short.
    """
    lines: list[dict[str, Any]] = []
    if path.is_file():
        for text in path.read_text("utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
    return lines
