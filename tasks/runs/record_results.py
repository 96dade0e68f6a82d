"""Prefect results that are stage records: JSON that points at an artifact, verified when read."""

from __future__ import annotations

import json
from typing import Any

from prefect.serializers import Serializer

from retune.records import Record
from retune.spine.opening import open_store


class StoredRecord(Record):
    """What Prefect keeps as a task's result: where the record stands, not what it says."""

    stage: str
    key: str
    store: str
    """Address of the store."""
    computed: bool = False
    """Whether it was computed just now; not kept, since it is no longer true when it is read."""

    def verify(self) -> None:
        """Verify its artifact, of whatever table the stage is.

        Raises:
            ArtifactError: The artifact is missing or damaged.
        """
        open_store(self.store).verify(self.stage, self.key)


class StoredRecordSerializer(Serializer):  # not Serializer[Any]: Prefect registers plain names
    """Writes a `StoredRecord`, and refuses to read one whose artifact is gone or damaged.

    Prefect takes a result that cannot be read as absent and runs the task again, so that a damaged
    artifact heals, while a good one shows as Cached in the UI.
    """

    type: str = "retune-stored-record"

    def dumps(self, obj: Any) -> bytes:
        """Write where the record stands."""
        if not isinstance(obj, StoredRecord):
            # A failed task's exception takes this way too; it is shown, never read back.
            return json.dumps({"error": str(obj)}).encode()
        return obj.model_dump_json(exclude={"computed"}).encode()

    def loads(self, blob: bytes) -> StoredRecord:
        """Read it, and verify the artifact.

        Raises:
            ArtifactError: The artifact is missing or damaged.
        """
        stored = StoredRecord.model_validate_json(blob)
        stored.verify()
        return stored
