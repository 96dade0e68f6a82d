"""Sources made of plain rows, cleaned as the stage cleans them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from retune.data.findings import DROPPED_FILE, QUALITY_FILE, QualityReport
from retune.data.quality.cleaning import clean_rows
from retune.data.schemas import ROW_SCHEMA
from retune.data.stages import CleanInputs, CleanSettings
from retune.data.tables import write_table
from retune.records import CleanRef, DatasetRef
from retune.spine.stage import Workdir
from tests.making import settings_of

EMPTY = dict.fromkeys(ROW_SCHEMA.names) | {"history": [], "context": "", "answer": "a", "file": 0}


class Cleaned(NamedTuple):
    """What cleaning left behind."""

    ref: CleanRef
    report: QualityReport
    index: list[dict[str, Any]]
    dropped: list[dict[str, Any]]

    def ids(self) -> list[str]:
        return [row["row_id"] for row in self.index]


class Made(NamedTuple):
    """One source: its rows, and what is known of it."""

    rows: Sequence[dict[str, Any]]
    files: tuple[str, ...] = ("train.jsonl",)
    held_out: bool = False
    weight: float | None = None
    bad: Sequence[dict[str, Any]] = ()


def write_source(folder: Path, source: Made) -> DatasetRef:
    """Write a source as `load_rows` does; keys that a row lacks are empty, lines count from 1."""
    (folder / "log").mkdir(parents=True)
    rows = [{**EMPTY, "line": place, **row} for place, row in enumerate(source.rows, 1)]
    count = write_table(folder / "rows.parquet", rows, ROW_SCHEMA)
    lines = "".join(json.dumps(bad) + "\n" for bad in source.bad)
    (folder / "log" / "bad.jsonl").write_text(lines, "utf-8")
    labels = tuple(sorted({row["label"] for row in rows if row["label"] is not None}))
    return DatasetRef(
        digest="0" * 64,
        folder=folder,
        format="text_label" if labels else "instruction",
        rows=count,
        bad_rows=len(source.bad),
        labels=labels,
        databases=0,
    )


def clean_in(folder: Path, *sources: Made, **quality: Any) -> Cleaned:
    """Clean sources in an empty folder."""
    refs = tuple(write_source(folder / str(i), source) for i, source in enumerate(sources))
    work = Workdir(folder / "artifact", folder / "scratch")
    for place in (work.artifact, work.scratch):
        place.mkdir(parents=True)
    inputs = CleanInputs(
        rows=refs,
        weights=tuple(source.weight for source in sources),
        held_out=tuple(source.held_out for source in sources),
        names=tuple(source.files for source in sources),
    )
    section = settings_of(CleanSettings, quality=quality)
    ref = clean_rows(inputs, section, work)
    read = (work.artifact / DROPPED_FILE).read_text("utf-8").splitlines()
    return Cleaned(
        ref=ref,
        report=QualityReport.model_validate_json((work.artifact / QUALITY_FILE).read_bytes()),
        index=pq.read_table(work.artifact / "index.parquet").to_pylist(),
        dropped=[json.loads(line) for line in read],
    )


@pytest.fixture
def clean(tmp_path: Path) -> Callable[..., Cleaned]:
    """Clean sources; plain lists of rows are sources too."""
    runs = iter(range(100))

    def run(*sources: Any, **quality: Any) -> Cleaned:
        made = [each if isinstance(each, Made) else Made(each) for each in sources]
        return clean_in(tmp_path / f"run{next(runs)}", *made, **quality)

    return run


@pytest.fixture
def labelled(shared_data: Path) -> Callable[[str, str], list[dict[str, Any]]]:
    """Read a CSV file of texts and labels as rows; lines are row numbers."""

    def read(name: str, label: str) -> list[dict[str, Any]]:
        with (shared_data / name).open(encoding="utf-8", newline="") as file:
            return [{"question": r["text"], "label": r[label]} for r in csv.DictReader(file)]

    return read
