"""The wrapper around a stage: keys, records that verify themselves, plans, and further tries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from pydantic import BaseModel

from retune.errors import ArtifactError, DataError, ServiceError, StageDied
from retune.records import DatasetRef, Source
from retune.spine.stage import Reporter, Stage, StageRequest, run_stage
from retune.spine.store import Store
from tasks.runs.prefect_api import PrefectApi
from tasks.runs.record_results import StoredRecord, StoredRecordSerializer
from tasks.runs.run import Run, open_run
from tasks.runs.stage_task import Pending, StageTask, combine, is_pending
from tests.retune.tiny_stages import TinyConfig
from tests.retune.tiny_stages import tiny as tiny_stage
from tests.tasks.conftest import Told

FIGURES: Any = {
    "digest": "d",
    "format": "text",
    "rows": 1,
    "bad_rows": 0,
    "labels": (),
    "databases": 0,
}


@pytest.fixture
def stored(tmp_path: Path) -> StoredRecord:
    """A record of `load_rows` in a store, sealed like a real one."""
    store = Store(tmp_path / "store")
    work = store.open_work("load_rows", "key")
    (work / "artifact" / "rows.parquet").write_bytes(b"rows")
    record = DatasetRef(folder=work / "artifact", **FIGURES)
    store.seal("load_rows", "key", record, key_parts={}, provenance={})
    return StoredRecord(stage="load_rows", key="key", store=store.address)


def test_a_result_is_json_that_reads_back_as_the_same_record(stored: StoredRecord) -> None:
    """What Prefect keeps points at the artifact; no pickle, no copy of the figures."""
    serializer = StoredRecordSerializer()
    blob = serializer.dumps(stored)
    assert serializer.loads(blob) == stored
    loaded = Store(Path(stored.store)).load(stored.stage, stored.key, DatasetRef)
    assert loaded == DatasetRef(folder=Path(stored.store) / "load_rows" / "key", **FIGURES)


def test_a_result_whose_artifact_is_damaged_cannot_be_read(stored: StoredRecord) -> None:
    """Prefect then takes it as absent and runs the task again."""
    blob = StoredRecordSerializer().dumps(stored)
    (Path(stored.store) / "load_rows" / "key" / "rows.parquet").write_bytes(b"rowz")
    with pytest.raises(ArtifactError, match=r"rows\.parquet"):
        StoredRecordSerializer().loads(blob)


def test_whatever_is_asked_of_a_pending_record_is_pending() -> None:
    """A plan goes through the flow's own lines, attribute access and method calls included."""
    pending = Pending()
    assert is_pending(pending.side("test")) and is_pending(pending.as_scored().digest)
    assert is_pending([1, (pending,)]) and not is_pending([1, None, "x"])
    assert is_pending({"rows": [pending]}) and not is_pending({"rows": [1]})


def test_what_is_made_of_pending_records_is_pending() -> None:
    """What makes it is not called."""
    assert combine(len, [1, 2]) == 2
    assert is_pending(combine(len, [Pending()]))


class Section(BaseModel):
    """Where the tiny stage finds its settings."""

    tiny: TinyConfig


class Overtaken(Run):
    """A run that another one is always ahead of, once it has looked a stage up."""

    def compute(self, stage: Stage[..., Any], request: StageRequest, reporter: Reporter) -> None:
        """Let the other run compute first."""
        run_stage(stage, request)
        super().compute(stage, request, reporter)


class Dying(Run):
    """A run whose first stage process dies, and whose server is away at the second try."""

    def compute(self, stage: Stage[..., Any], request: StageRequest, reporter: Reporter) -> None:
        """Fail at the first two calls."""
        for error in (StageDied("tiny: the stage process died"), ServiceError("MLflow is away")):
            marker = self.store.root / type(error).__name__
            if not marker.exists():
                marker.touch()
                raise error
        super().compute(stage, request, reporter)


class Wrong(Run):
    """A run whose rows are wrong; each try is counted."""

    def compute(self, stage: Stage[..., Any], request: StageRequest, reporter: Reporter) -> None:
        """Fail, and leave a line."""
        with open(self.store.root / "tries", "a") as tries:
            tries.write("one\n")
        raise DataError("linha 7")


tiny = StageTask(tiny_stage)
SOURCE = Source(digest="d", path=Path("in.txt"))


def make_run(
    folder: Path,
    told: Told,
    kind: type[Run] = Run,
    *,
    direct: bool = True,
    prefect: PrefectApi | None = None,
    **settings: Any,
) -> Run:
    """Return a run of tiny stages, called without Prefect unless asked."""
    return kind(
        name="r",
        settings=Section(tiny=TinyConfig(**settings)),
        store=Store(folder),
        watcher=told,
        direct=direct,
        prefect=prefect or PrefectApi(),
    )


def test_a_stage_runs_once_and_is_reused(tmp_path: Path, told: Told) -> None:
    """The start of the one that runs is told, with why; both have a line."""
    run = make_run(tmp_path, told, number=3)
    first, second = tiny.of("a")(run, source=SOURCE), tiny.of("b")(run, source=SOURCE)
    assert first == second and first.number == 3
    assert [(line.label, line.state) for line in run.lines] == [
        ("tiny (a)", "ran"),
        ("tiny (b)", "reused"),
    ]
    assert told.begun == [("tiny (a)", "first run")] and told.lines == run.lines


def test_a_stage_that_another_run_computed_was_waited_for(tmp_path: Path, told: Told) -> None:
    """It was to run, and came out of the store: the time was spent on waiting."""
    run = make_run(tmp_path, told, Overtaken)
    tiny(run, source=SOURCE)
    (line,) = told.lines
    assert line.state == "waited" and "another run" in line.reason and line.seconds > 0


def test_a_plan_tells_what_would_run_and_runs_nothing(tmp_path: Path, told: Told) -> None:
    """What is stored is returned, what is not is pending, and so is whatever takes that."""
    run = make_run(tmp_path, told)
    kept = tiny(run, source=SOURCE)
    plan = replace(make_run(tmp_path, told), planning=True)
    assert tiny(plan, source=SOURCE) == kept
    other = replace(plan, settings=Section(tiny=TinyConfig(number=9)))
    missing = tiny(other, source=SOURCE)
    assert is_pending(missing) and is_pending(tiny(other, source=missing))
    assert [line.reason for line in plan.lines[1:]] == [
        "tiny.number: 1 -> 9",
        "source will be new",
    ]
    assert len(list((tmp_path / "tiny").glob("*/manifest.json"))) == 1


def test_a_stage_that_fails_has_no_line(tmp_path: Path, told: Told) -> None:
    """The error says what is wrong; it travels as it is."""
    with pytest.raises(DataError, match="linha 7"):
        tiny(make_run(tmp_path, told, act="fail"), source=SOURCE)
    assert told.begun and not told.lines


@pytest.mark.usefixtures("server")
def test_prefect_sees_the_same_states(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed, then cached, then waited for, and tried again where the failure can heal."""
    monkeypatch.setattr("tasks.runs.stage_task.RETRY_SECONDS", (0, 0))
    tiny = StageTask(tiny_stage)

    @flow(persist_result=False)
    def call(run: Any) -> None:
        with open_run(run) as opened:
            tiny(opened, source=SOURCE)

    for number, kind in ((1, Run), (1, Run), (2, Overtaken), (3, Dying)):
        call(replace(make_run(tmp_path / "store", told, kind, number=number), direct=False))
    assert [line.state for line in told.lines] == ["ran", "reused", "waited", "ran"]
    assert (tmp_path / "store" / "ServiceError").exists()
    with pytest.raises(DataError, match="linha 7"):
        call(replace(make_run(tmp_path / "store", told, Wrong, number=4), direct=False))
    assert (tmp_path / "store" / "tries").read_text() == "one\n"
