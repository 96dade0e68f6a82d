"""What a stage reads has to be what its key says, from its beginning to its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from retune.errors import ArtifactError, DataError
from retune.modeling.snapshots import locate_base
from retune.records import ArtifactRecord, Record
from retune.spine.stage import run_stage
from retune.spine.store import Store
from retune.spine.unchanged_inputs import refuse_changed
from tests.retune.tiny_stages import Made, tiny
from tests.retune.tiny_stages import request as tiny_request


class Given(Record):
    """Inputs of a stage: an artifact, a part of one, and what lies in no store."""

    made: Made
    parts: tuple[Part, ...] = ()
    model: ArtifactRecord | None = None


class Part(ArtifactRecord):
    """A folder of an artifact."""


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Store, Made]:
    return Store(tmp_path / "store"), run_stage(tiny, tiny_request(tmp_path / "store"))


def test_whole_artifacts_are_taken(stored: tuple[Store, Made], tmp_path: Path) -> None:
    """So is a folder outside of the store, which nobody has digested."""
    store, made = stored
    outside = Part(digest="d", folder=tmp_path)
    refuse_changed(store, "next", Given(made=made, parts=(outside,)))


def test_a_damaged_artifact_is_refused(stored: tuple[Store, Made]) -> None:
    """What the stage made of it would be stored as made of the whole one."""
    store, made = stored
    (made.folder / "sub" / "number.json").write_text("8")
    with pytest.raises(ArtifactError, match=r"^next: it reads .*sub/number.json changed"):
        refuse_changed(store, "next", Given(made=made))


def test_the_artifact_of_a_part_is_looked_at(stored: tuple[Store, Made], tmp_path: Path) -> None:
    """A side of the rows is a folder of the artifact that holds all sides."""
    store, made = stored
    elsewhere = made.model_copy(update={"folder": tmp_path})
    part = Part(digest="d", folder=made.folder / "sub")
    (made.folder / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="it reads"):
        refuse_changed(store, "next", Given(made=elsewhere, parts=(part,)))


def test_a_base_that_changed_is_refused(
    stored: tuple[Store, Made], snapshot: Callable[[str], Path], copied: Callable[[Path], Path]
) -> None:
    """Its digest was read when the run began; its README says nothing of what it computes."""
    store, made = stored
    folder = copied(snapshot("llama"))
    given = Given.model_construct(made=made, model=locate_base(str(folder), None))
    (folder / "README.md").write_text("# Another page")
    refuse_changed(store, "next", given)
    with open(folder / "config.json", "a", encoding="utf-8") as file:
        file.write(" ")
    with pytest.raises(DataError, match="changed since the run began"):
        refuse_changed(store, "next", given)
