"""The wrapper around a stage: keys, records that verify themselves, plans, and one retry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retune.errors import ArtifactError
from retune.records import DatasetRef
from retune.store import Store
from tasks.record_results import StoredRecord, StoredRecordSerializer
from tasks.stage_task import Pending, is_pending

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
    return StoredRecord(stage="load_rows", key="key", store=store.root)


def test_a_result_is_json_that_reads_back_as_the_same_record(stored: StoredRecord) -> None:
    """What Prefect keeps points at the artifact; no pickle, no copy of the figures."""
    serializer = StoredRecordSerializer()
    blob = serializer.dumps(stored)
    assert serializer.loads(blob) == stored
    loaded = Store(stored.store).load(stored.stage, stored.key, DatasetRef)
    assert loaded == DatasetRef(folder=stored.store / "load_rows" / "key", **FIGURES)


def test_a_result_whose_artifact_is_damaged_cannot_be_read(stored: StoredRecord) -> None:
    """Prefect then takes it as absent and runs the task again."""
    blob = StoredRecordSerializer().dumps(stored)
    (stored.store / "load_rows" / "key" / "rows.parquet").write_bytes(b"rowz")
    with pytest.raises(ArtifactError, match=r"rows\.parquet"):
        StoredRecordSerializer().loads(blob)


def test_whatever_is_asked_of_a_pending_record_is_pending() -> None:
    """A plan goes through the flow's own lines, attribute access and method calls included."""
    pending = Pending()
    assert is_pending(pending.side("test")) and is_pending(pending.as_scored().digest)
    assert is_pending([1, (pending,)]) and not is_pending([1, None, "x"])
