"""A judge on this machine, and what its stages are given."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retune.data.schemas import INDEX_SCHEMA, ROW_SCHEMA
from retune.data.tables import write_table
from retune.digests import digest_folder
from retune.records import DatasetRef, SplitRef
from retune.score_records import ScoreReport
from retune.scoring.judge.kept_answers import ANSWERS_FOLDER
from retune.scoring.judge.stages import JudgeSettings
from retune.scoring.outcomes import write_outcomes
from retune.spine.stage import Workdir
from tests.judge_stand_in import StandInJudge, standing_in
from tests.making import make_workdir, settings_of

QUICK = {"concurrency": 3, "attempts": 3, "timeout_seconds": 30.0}


@pytest.fixture
def judge() -> Iterator[StandInJudge]:
    """Run a judge for one test."""
    with standing_in() as found:
        yield found


def judge_settings(judge: StandInJudge, **config: Any) -> JudgeSettings:
    """Return what a stage reads of a recipe with that judge."""
    section = {"endpoint": judge.address, "model": "judge", "runtime": QUICK} | config
    found: JudgeSettings = settings_of(JudgeSettings, judge=section, scoring={"resamples": 200})
    return found


def work_in(folder: Path, name: str) -> Workdir:
    """Make the folders of a computation of a store, whose kept answers are the folder's own."""
    return replace(make_workdir(folder / name), context={ANSWERS_FOLDER: str(folder / "kept")})


def write_answers_of(folder: Path, answers: Sequence[str | None]) -> ScoreReport:
    """Write what `score_text` keeps of a model's answers; None was not answered."""
    folder.mkdir()
    write_outcomes(
        folder,
        [
            {
                "row_id": f"r{at}",
                "group": f"g{at}",
                "question": f"Question {at}?",
                "prediction": answer or "",
                "reason": "prompt_too_long" if answer is None else None,
            }
            for at, answer in enumerate(answers)
        ],
    )
    return ScoreReport(
        digest=digest_folder(folder), folder=folder, metrics={}, rows=len(answers), unscored={}
    )


def write_asked_rows(folder: Path, count: int) -> tuple[SplitRef, DatasetRef]:
    """Write rows r0, r1, ... of one source, which are all held out, in the order of an index."""
    folder.mkdir()
    empty: dict[str, Any] = dict.fromkeys(ROW_SCHEMA.names)
    rows = [
        empty | {"question": f"Question {at}?", "context": "", "history": [], "steps": []}
        for at in range(count)
    ]
    write_table(folder / "rows.parquet", rows, ROW_SCHEMA)
    index: dict[str, Any] = dict.fromkeys(INDEX_SCHEMA.names)
    named = [index | {"source": 0, "row": at, "row_id": f"r{at}"} for at in range(count)]
    write_table(folder / "test.parquet", named[::-1], INDEX_SCHEMA)
    digest = digest_folder(folder)
    split = SplitRef(
        digest=digest, folder=folder, train=0, validation=0, test=count, groups_shared=0
    )
    source = DatasetRef(
        digest=digest,
        folder=folder,
        format="instruction",
        rows=count,
        bad_rows=0,
        labels=(),
        databases=0,
    )
    return split, source


def write_verdicts(path: Path, verdicts: Sequence[tuple[str, str, str]]) -> Path:
    """Write pairs that people have judged: answer A, answer B, verdict."""
    lines = [
        {"prompt": f"Question {at}?", "answer_a": a, "answer_b": b, "verdict": verdict}
        for at, (a, b, verdict) in enumerate(verdicts)
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines), "utf-8")
    return path
