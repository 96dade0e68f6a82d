"""What a scored row leaves behind: one JSON line in a report's `rows.jsonl`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from retune.data.quality.sensitive import redact_values
from retune.records import LOG_FOLDER
from retune.score_records import ModelScores, ScoreReport
from retune.spine.store import MANIFEST

ROWS_FILE = "rows.jsonl"
LATENCY_FILE = f"{LOG_FOLDER}/latency.json"
"""How long answers took: no part of a report's digest, since two equal runs differ in it."""


def write_outcomes(folder: Path, outcomes: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per row.

    Args:
        folder: The report's folder.
        outcomes: Each with `row_id`, `group` and the row's figures; None where unscored.
    """
    write_lines(folder / ROWS_FILE, outcomes)


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line.

    Args:
        path: The file.
        rows: Whose texts may be a model's.
    """
    # A lone surrogate has no UTF-8: it is written as the escape that JSON has for it.
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")


def redact_outcomes(report: ScoreReport, target: Path) -> None:
    """Copy a report's folder for readers who may not see the rows.

    Args:
        report: Its `rows.jsonl` holds questions and answers.
        target: Made anew; secrets and personal data in texts of its JSON files are redacted.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(report.folder, target)
    for path in target.rglob("*.json*"):
        lines = path.read_text("utf-8").split("\n") if path.suffix == ".jsonl" else []
        if path.suffix == ".jsonl":
            path.write_text("\n".join(map(_redact_line, lines)), "utf-8")
        elif path.name != MANIFEST:
            path.write_text(_redact_line(path.read_text("utf-8"), indent=2), "utf-8")


def _redact_line(line: str, indent: int | None = None) -> str:
    if not line.strip():
        return line
    found = redact_values(json.loads(line))
    return json.dumps(found, ensure_ascii=False, sort_keys=True, indent=indent)


def read_latency(scores: ModelScores) -> dict[str, Any] | None:
    """Read how long a model's answers took, as `retune.inference.latency` writes it.

    Args:
        scores: Its reports; the first that was timed counts.

    Returns:
        None where none was.
    """
    files = (report.folder / LATENCY_FILE for report in scores.reports.values())
    path = next((file for file in files if file.is_file()), None)
    found: dict[str, Any] | None = None if path is None else json.loads(path.read_text("utf-8"))
    return found


def read_outcomes(report: ScoreReport) -> list[dict[str, Any]]:
    """Read a report's rows in the order they were scored."""
    # Not `splitlines`: a model may write U+2028, which JSON leaves as it is.
    with open(report.folder / ROWS_FILE, encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]
