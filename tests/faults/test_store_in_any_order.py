"""A store under writers, readers and crashes in any order: an artifact is whole, or not there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from retune.errors import ArtifactError, RetuneError
from retune.records import ArtifactRecord, Source
from retune.spine.stage import Settings, StageRequest, Workdir, key_parts, run_stage, stage
from retune.spine.stage import stage_key as key_of
from retune.spine.store import MANIFEST, Store
from tests.faults.taking_turns import Actor, Fault, Turns
from tests.retune.tiny_stages import Inputs

EXAMPLES = 3_000 if os.environ.get("RETUNE_FAULTS") == "all" else 120
FILES = {"rows.json": "[1, 2, 3]\n" * 40, "sub/of/weights.bin": "w" * 300}


class Made(ArtifactRecord):
    """What the stage here returns."""


class Nothing(Settings):
    """The stage here reads nothing of a recipe."""


@stage(Inputs, version=1)
def write_files(inputs: Inputs, settings: Nothing, work: Workdir) -> Made:
    """Write the same files each time, and a checkpoint before."""
    (work.scratch / "checkpoint.json").write_text("{}")
    for name, text in FILES.items():
        path = work.artifact / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Made(digest="0" * 64, folder=work.artifact)


def request_for(root: Path) -> StageRequest:
    inputs = Inputs(source=Source(digest="d1", path=Path("in.txt")))
    key = key_of(key_parts(write_files, inputs, Nothing()))
    return StageRequest(
        stage="write_files",
        key=key,
        inputs=inputs.model_dump(mode="json"),
        settings={},
        store=str(root),
    )


def cut_short(folder: Path) -> None:
    path = folder / "rows.json"
    path.write_text(path.read_text()[:-9])


BEFORE: dict[str, Callable[[Path], object]] = {
    "whole": lambda folder: None,
    "absent": shutil.rmtree,
    "no store": lambda folder: shutil.rmtree(folder.parents[1]),
    "a file cut short": cut_short,
    "a file missing": lambda folder: (folder / "sub/of/weights.bin").unlink(),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "half a manifest": lambda folder: (folder / MANIFEST).write_text('{"stage": "wri'),
}
"""How the artifact is found, made from a whole one."""

KINDS = ("killed", "power", errno.ENOSPC, errno.EIO, errno.EACCES)
faults = st.none() | st.builds(Fault, at=st.integers(0, 45), kind=st.sampled_from(KINDS))
switches = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2)), max_size=10)


def write(request: StageRequest) -> Callable[[], str]:
    return lambda: run_stage(write_files, request).digest


def read(request: StageRequest, times: int = 6) -> Callable[[], list[dict[str, str] | None]]:
    """Return what looks again and again, as a run does that reuses the artifact."""

    def look() -> list[dict[str, str] | None]:
        store, seen = Store(Path(request.store)), []
        for _ in range(times):
            if store.damage(request.stage, request.key) is not None:
                seen.append(None)
                continue
            try:
                record = store.load(request.stage, request.key, Made)
            except ArtifactError:
                seen.append(None)  # Somebody began to compute it anew.
                continue
            seen.append({name: (record.folder / name).read_text() for name in FILES})
        return seen

    return look


@settings(max_examples=EXAMPLES)
@given(
    before=st.sampled_from(sorted(BEFORE)),
    first=faults,
    second=faults,
    readers=st.integers(0, 1),
    order=switches,
    power=st.booleans(),
)
def test_an_artifact_is_whole_or_absent_whatever_happens(
    before: str,
    first: Fault | None,
    second: Fault | None,
    readers: int,
    order: list[tuple[int, int]],
    power: bool,
) -> None:
    """Two writers and a reader take turns, and each writer may fail or be killed at any change.

    Who is not killed gets the artifact or one of retune's own errors, and what was handed out once
    is there after a power cut too. A reader sees all of it or none. After whatever happened one
    more run has it whole, with nothing left beside it.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        request = request_for(root)
        artifact = run_stage(write_files, request).folder
        BEFORE[before](artifact)
        actors = [Actor(write(request), first), Actor(write(request), second)]
        actors += [Actor(read(request))] * readers
        turns = Turns(root, actors, order)
        turns.run()
        if power:
            turns.lose_unsynced()

        for actor in actors[:2]:
            assert actor.error is None or isinstance(actor.error, RetuneError), repr(actor.error)
            if actor.fault is None and not actor.dead:
                assert actor.error is None, str(actor.error)
                assert actor.result == "0" * 64
        for reader in actors[2:]:
            assert reader.error is None, repr(reader.error)
            assert all(seen in (None, FILES) for seen in reader.result or ())
        store = Store(root)
        lost = store.damage("write_files", request.key, afresh=True)
        if any(actor.result is not None for actor in actors[:2]):
            assert lost is None, f"it was handed out, and then: {lost}"
        if lost is None:
            assert {name: (artifact / name).read_text() for name in FILES} == FILES
        run_stage(write_files, request)
        assert store.damage("write_files", request.key, afresh=True) is None
        assert store.artifacts() == [("write_files", request.key)]
        assert sorted(json.loads((artifact / MANIFEST).read_text())["files"]) == sorted(FILES)
        assert not [path for path in root.rglob("*") if path.suffix in (".work", ".part")]
