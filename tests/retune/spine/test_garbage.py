"""What of a store stays and why, and that deleting the rest never shows half of anything."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from retune.errors import ArtifactError
from retune.records import Record
from retune.spine.deleting import delete_items
from retune.spine.garbage import TRASH, Item, Needs, PossibleNeed, survey
from retune.spine.stage import StageRequest, key_parts, run_stage
from retune.spine.store import Store
from retune.spine.usage import at_work, mark_used
from tests.faults.taking_turns import Actor, Fault, Turns
from tests.retune.tiny_stages import Made, settings_of, tiny
from tests.retune.tiny_stages import request as tiny_request

DAY = 86_400.0
LONG_AGO = 1_000_000_000.0


def make(store: Store, number: int, **config: object) -> StageRequest:
    """Compute an artifact whose stage was last heard of long ago."""
    request = tiny_request(store.root, number=number, **config)  # type: ignore[arg-type]
    run_stage(tiny, request)
    for path in (
        store.folder("tiny", request.key),
        store.root / "requests" / "tiny" / f"{request.key}.json",
    ):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return request


def look(store: Store, needs: Needs | None = None, keep_days: float = 14) -> list[Item]:
    return survey(store, needs or Needs(), keep_seconds=keep_days * DAY, now=time.time())


def artifacts(items: list[Item]) -> dict[str, tuple[bool, str]]:
    """Return whether each artifact stays, and why, by its key."""
    return {item.key: (item.stays, item.reason) for item in items if item.kind == "artifact"}


def silent(_: Item) -> None:
    """Take what nobody reads."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_what_is_referred_to_stays_with_its_reason(store: Store) -> None:
    """By its key, by the digest of what it made, or by settings whose inputs are not known yet."""
    keyed, made, possible, other = (make(store, number) for number in range(4))
    asked = settings_of(number=2)
    parts = key_parts(tiny, Record(), asked)
    del parts["input"]
    elsewhere = PossibleNeed("merge", {"stage": "merge"}, {}, "recipe d may need it")
    needs = Needs(
        {keyed.key: "recipe a"},
        {f"{1:064d}": "history of b"},
        [elsewhere, PossibleNeed("tiny", parts, asked.by_name(), "recipe c may need it")],
    )
    assert artifacts(look(store, needs)) == {
        keyed.key: (True, "recipe a"),
        made.key: (True, "history of b"),
        possible.key: (True, "recipe c may need it"),
        other.key: (False, "nothing refers to it"),
    }


def test_what_a_kept_artifact_was_made_of_stays_with_it(store: Store) -> None:
    """Its request names the folders of its inputs, at whatever depth."""
    below, above = make(store, 1), make(store, 2)
    path = store.root / "requests" / "tiny" / f"{above.key}.json"
    inputs = {"more": [{"folder": str(store.folder("tiny", below.key) / "train")}]}
    path.write_text(above.model_copy(update={"inputs": inputs}).model_dump_json())
    kept = (True, "recipe a")
    assert artifacts(look(store, Needs({above.key: "recipe a"}))) == {
        above.key: kept,
        below.key: kept,
    }
    # What history names, such as a decision, stays by itself.
    assert artifacts(look(store, Needs(digests={f"{2:064d}": "history of b"}))) == {
        above.key: (True, "history of b"),
        below.key: (False, "nothing refers to it"),
    }


def test_age_counts_from_the_last_use(store: Store) -> None:
    """Of two that were computed long ago, the one that a run took yesterday stays for 14 days."""
    used, unused = make(store, 1), make(store, 2)
    mark_used(store, "tiny", used.key)
    assert artifacts(look(store)) == {
        used.key: (True, "used within 14 days"),
        unused.key: (False, "nothing refers to it"),
    }
    assert not artifacts(look(store, keep_days=0))[used.key][0]


def test_what_is_being_computed_stays_whatever_its_age(store: Store) -> None:
    """The lock of its key is held: the artifact, a work folder and the lock are left alone."""
    request = make(store, 1)
    work = store.root / "tiny" / f"{request.key}.work"
    work.mkdir()
    os.utime(work, (LONG_AGO, LONG_AGO))
    with FileLock(store.root / "locks" / f"{request.key}.lock"):
        held = look(store, keep_days=0)
        assert {(item.kind, item.reason) for item in held} == {
            ("artifact", "being computed"),
            ("work", "being computed"),
            ("request", "of what stays"),
            ("lock", "held"),
        }
    assert not any(item.stays for item in look(store, keep_days=0))


def test_what_a_run_at_work_has_used_stays_until_it_ends(store: Store) -> None:
    """With no days kept at all; what was last used before it began goes."""
    used, unused = make(store, 1), make(store, 2)
    with at_work(store.root):
        mark_used(store, "tiny", used.key)
        found = look(store, keep_days=0)
        assert artifacts(found)[used.key] == (True, "used by a run at work")
        assert not artifacts(found)[unused.key][0]
        assert [item.reason for item in found if item.stays and item.kind == "lock"] == [
            "of what stays",
            "a run at work",
        ]
    assert not artifacts(look(store, keep_days=0))[used.key][0]
    assert not list((store.root / "locks" / "runs").iterdir())


def test_a_run_that_died_keeps_nothing(store: Store) -> None:
    """Its lock file is still there, and nobody holds it."""
    (store.root / "locks" / "runs").mkdir(parents=True)
    (store.root / "locks" / "runs" / "dead.lock").touch()
    request = make(store, 1)
    mark_used(store, "tiny", request.key)
    items = look(store, keep_days=0)
    assert not artifacts(items)[request.key][0]
    assert "a lock of a run that died" in {item.reason for item in items if not item.stays}


def test_bytes_that_are_linked_from_elsewhere_are_not_freed(store: Store, tmp_path: Path) -> None:
    """Of two links to a file in the store, both of which go, the bytes are freed once."""
    first, second = make(store, 1), make(store, 2)
    folder = store.folder("tiny", first.key)
    (folder / "own").write_bytes(b"x" * 100)
    (folder / "registered").write_bytes(b"x" * 1000)
    os.link(folder / "registered", tmp_path / "version")
    os.link(folder / "own", store.folder("tiny", second.key) / "own")
    for request in (first, second):
        os.utime(store.folder("tiny", request.key), (LONG_AGO, LONG_AGO))
    own = [item for item in look(store) if item.kind == "artifact"]
    assert not any(item.stays for item in own)
    manifests = sum(
        path.stat().st_size
        for request in (first, second)
        for path in store.folder("tiny", request.key).rglob("*.json")
    )
    assert sum(item.bytes for item in own) == manifests + 1000 + 2 * 100
    assert sum(item.freed for item in own) == manifests + 100
    # Where one of the two links stays, nothing of that file is freed.
    kept = look(store, Needs({second.key: "recipe a"}))
    (going,) = (item for item in kept if item.kind == "artifact" and not item.stays)
    assert going.bytes - going.freed == 1000 + 100


def test_all_that_a_lost_key_left_behind_goes_with_it(store: Store) -> None:
    """Request, lock, work folder, log and trash; what is kept has all of them still."""
    kept, lost = make(store, 1), make(store, 2)
    for request in (kept, lost):
        work = store.root / "tiny" / f"{request.key}.work" / "scratch"
        work.mkdir(parents=True)
        os.utime(work, (LONG_AGO, LONG_AGO))
        os.utime(work.parent, (LONG_AGO, LONG_AGO))
    log, trash = store.root / "logs" / "stages-1.log", store.root / TRASH / "tiny-half"
    log.parent.mkdir()
    log.write_text("old")
    os.utime(log, (LONG_AGO, LONG_AGO))
    trash.mkdir(parents=True)
    history = store.root / "known" / "tiny" / f"{lost.key}.json"
    gone, left = delete_items(store, look(store, Needs({kept.key: "recipe a"})), silent)
    assert sorted(item.kind for item in gone) == [
        "artifact",
        "lock",
        "log",
        "request",
        "trash",
        "work",
    ]
    assert not left
    there = [path for path in store.root.rglob("*") if lost.key in path.name]
    assert there == [history]
    assert not log.exists()
    assert not trash.parent.exists()
    assert store.damage("tiny", kept.key, afresh=True) is None
    assert (store.root / "tiny" / f"{kept.key}.work").is_dir()
    assert (store.root / "requests" / "tiny" / f"{kept.key}.json").is_file()


def test_a_damaged_artifact_is_no_reason_to_stop(store: Store) -> None:
    """Half a manifest says nothing of what it is, and half a request nothing of its inputs."""
    request = make(store, 1)
    folder = store.folder("tiny", request.key)
    (folder / "manifest.json").write_text('{"stage"')
    (store.root / "requests" / "tiny" / f"{request.key}.json").write_text('{"inputs"')
    os.utime(folder, (LONG_AGO, LONG_AGO))
    assert artifacts(look(store)) == {request.key: (False, "its manifest is damaged")}
    assert artifacts(look(store, Needs({request.key: "recipe a"}))) == {
        request.key: (True, "recipe a")
    }


@pytest.mark.parametrize("when", ["before", "within"])
def test_what_was_used_since_the_look_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """A run takes it after the survey, or between the last look at it and the rename."""
    request = make(store, 1)
    items = look(store)
    if when == "before":
        mark_used(store, "tiny", request.key)
    else:
        rename = Path.rename

        def used_first(path: Path, target: Path) -> Path:
            if TRASH in target.parts:
                mark_used(store, "tiny", request.key)
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", used_first)
    gone, left = delete_items(store, items, silent)
    assert [item.kind for item in left] == ["artifact", "request", "lock"]
    assert not gone
    assert store.damage("tiny", request.key, afresh=True) is None


def test_two_deletions_do_not_meet(store: Store) -> None:
    """The second is refused, with what to do."""
    make(store, 1)
    items = look(store)

    def again(_: Item) -> None:
        delete_items(store, items, silent)

    with pytest.raises(ArtifactError, match="another retune gc deletes here"):
        delete_items(store, items, again)


def read(store: Store, key: str) -> Callable[[], list[str | None]]:
    """Return what looks again and again, as a run does that reuses the artifact."""

    def look_again() -> list[str | None]:
        seen: list[str | None] = []
        for _ in range(6):
            if store.damage("tiny", key) is not None:
                seen.append(None)
                continue
            try:
                record = store.load("tiny", key, Made)
                seen.append((record.folder / "sub" / "number.json").read_text())
            except (ArtifactError, FileNotFoundError):
                seen.append(None)  # Taken away after it was looked at.
        return seen

    return look_again


@settings(max_examples=3_000 if os.environ.get("RETUNE_FAULTS") == "all" else 80)
@given(
    fault=st.none()
    | st.builds(Fault, at=st.integers(0, 30), kind=st.sampled_from(("killed", "power", 28))),
    order=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2)), max_size=10),
)
def test_a_deletion_that_dies_leaves_each_artifact_whole_or_absent(
    fault: Fault | None, order: list[tuple[int, int]]
) -> None:
    """It is killed, or the disk fails it, at any of its changes, while one reads and one computes.

    What was computed again beside it is there afterwards, what is kept is untouched, and another
    deletion leaves nothing of what goes.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        kept, lost, again = (make(store, number) for number in (1, 2, 3))
        needs = Needs({kept.key: "recipe a"})
        items = look(store, needs)

        def compute() -> str:
            mark_used(store, "tiny", again.key)
            return run_stage(tiny, again).digest

        actors = [
            Actor(lambda: delete_items(store, items, silent), fault),
            Actor(read(store, lost.key)),
            Actor(compute),
        ]
        Turns(store.root, actors, order).run()
        deleting, reading, computing = actors
        assert deleting.error is None or isinstance(deleting.error, ArtifactError), deleting.error
        assert reading.error is None, repr(reading.error)
        assert set(reading.result or ()) <= {None, "2"}
        assert computing.error is None, repr(computing.error)
        for request in (lost, again):
            assert store.damage("tiny", request.key, afresh=True) in (None, "artifact deleted")
        if computing.result is not None:
            assert store.damage("tiny", again.key, afresh=True) is None
        assert store.damage("tiny", kept.key, afresh=True) is None
        delete_items(store, look(store, Needs({kept.key: "a", again.key: "b"})), silent)
        assert ("tiny", lost.key) not in store.artifacts()
        assert not (store.root / TRASH).exists()
        assert not [path for path in (store.root / "tiny").iterdir() if path.suffix == ".work"]
