"""Scores written by hand, and the gate over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retune.data.schemas import CHAT_SCHEMA
from retune.digests import digest_folder, digest_json
from retune.gate.deciding import decide
from retune.gate.stages import DecideInputs, DecideSettings
from retune.records import SideRef
from retune.score_records import GateDecision, Metric, ScoreReport
from retune.scoring.outcomes import write_outcomes
from retune.spine.stage import Workdir
from tests.making import settings_of


class MakeReport(Protocol):
    """Writes one report."""

    def __call__(self, rows: list[dict[str, Any]], *metrics: str) -> ScoreReport: ...


@pytest.fixture
def make_report(tmp_path: Path) -> MakeReport:
    """Write a report's rows; each metric is the mean of its column, or just known."""

    def make(rows: list[dict[str, Any]], *metrics: str) -> ScoreReport:
        folder = tmp_path / f"report-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        write_outcomes(folder, rows)
        found = {}
        for name in metrics:
            values = [row[name] for row in rows if row.get(name) is not None]
            known = 1.0 if not values and name in ("perplexity", "bits_per_byte") else None
            value = sum(values) / len(values) if values else known
            n = len(values) or (len(rows) if known else 0)
            found[name] = Metric(value=value, low=None, high=None, n=n)
        return ScoreReport(
            digest=digest_json([digest_folder(folder), sorted(metrics)]),
            folder=folder,
            metrics=found,
            rows=len(rows),
            unscored={},
        )

    return make


def sql_rows(right: list[bool | None], group: str | None = None) -> list[dict[str, Any]]:
    """Rows r0, r1, ... of a group each, or of one, with their execution match."""
    return [
        {"row_id": f"r{at}", "group": group or f"g{at}", "sql_execution_match": one}
        for at, one in enumerate(right)
    ]


def write_side(folder: Path, rows: list[dict[str, Any]]) -> SideRef:
    """Write held-out rows; what a row does not name is empty."""
    folder.mkdir()
    table = pa.Table.from_pylist(
        [
            dict.fromkeys(CHAT_SCHEMA.names)
            | {"row_id": f"r{at}", "group": f"g{at}", "question": "", "answer": ""}
            | row
            for at, row in enumerate(rows)
        ],
        schema=CHAT_SCHEMA,
    )
    pq.write_table(table, folder / "rows.parquet")
    return SideRef(digest=digest_folder(folder), folder=folder)


def decide_on(work: Workdir, inputs: DecideInputs, **config: Any) -> GateDecision:
    """Decide by a gate of some settings."""
    settings = settings_of(DecideSettings, gate=config, scoring={"resamples": 500})
    return decide(inputs, settings, work)
