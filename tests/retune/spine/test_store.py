"""The artifact store: complete or absent, and every damage has a name."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retune.errors import ArtifactError
from retune.spine import store as store_module
from retune.spine.stage import run_stage
from retune.spine.store import MANIFEST, Store
from tests.retune.tiny_stages import Made, tiny
from tests.retune.tiny_stages import request as tiny_request
from tests.waiting import GUARD_SECONDS, wait_until

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Store, str, Made]:
    """One sealed artifact: `manifest.json` and `sub/number.json`."""
    request = tiny_request(tmp_path / "store", number=7)
    return Store(tmp_path / "store"), request.key, run_stage(tiny, request)


def test_a_sealed_artifact_is_whole(stored: tuple[Store, str, Made]) -> None:
    """Nothing is wrong with it, it comes back as it went in, and no work folder is left."""
    store, key, record = stored
    assert store.damage("tiny", key) is None
    assert store.load("tiny", key, Made) == record
    assert not store.folder("tiny", key).with_name(f"{key}.work").exists()


def flip_a_bit(folder: Path) -> None:
    path = folder / "sub" / "number.json"
    before = path.stat()
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip_a_figure_in_the_manifest(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    assert '"number": 7' in text
    (folder / MANIFEST).write_text(text.replace('"number": 7', '"number": 6'))


def give_another_manifest(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace(folder.name, "0" * 32))


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "deleted folder": (shutil.rmtree, "artifact deleted"),
    "deleted file": (
        lambda folder: (folder / "sub" / "number.json").unlink(),
        "artifact damaged: sub/number.json missing",
    ),
    "bit flip under the old time": (flip_a_bit, "artifact damaged: sub/number.json changed"),
    "truncated file": (
        lambda folder: (folder / "sub" / "number.json").write_bytes(b""),
        "artifact damaged: sub/number.json changed",
    ),
    "truncated manifest": (
        lambda folder: (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:50]),
        "artifact damaged: manifest.json unreadable",
    ),
    "deleted manifest": (
        lambda folder: (folder / MANIFEST).unlink(),
        "artifact damaged: manifest.json unreadable",
    ),
    "bit flip in the manifest": (
        flip_a_figure_in_the_manifest,
        "artifact damaged: manifest.json changed",
    ),
    "manifest of another": (
        give_another_manifest,
        "artifact damaged: manifest.json of another artifact",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_seen_and_named(stored: tuple[Store, str, Made], name: str) -> None:
    """The store looks at the bytes, so that no time and no size can hide a change."""
    store, key, record = stored
    spoil, expected = DAMAGES[name]
    spoil(record.folder)
    assert store.damage("tiny", key) == expected
    with pytest.raises(ArtifactError, match=expected):
        store.load("tiny", key, Made)


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_heals_by_running_again(stored: tuple[Store, str, Made], name: str) -> None:
    """The next run computes the stage anew and the artifact is whole."""
    store, key, record = stored
    DAMAGES[name][0](record.folder)
    assert run_stage(tiny, tiny_request(store.root, number=7)) == record
    assert store.damage("tiny", key) is None


def test_an_artifact_is_found_where_the_store_moved(stored: tuple[Store, str, Made]) -> None:
    """The manifest holds no absolute path: the folder is where the artifact lies now."""
    store, key, record = stored
    moved = Store(store.root.rename(store.root.with_name("moved")))
    found = moved.load("tiny", key, Made)
    assert found.folder == moved.root / "tiny" / key
    assert found.model_copy(update={"folder": record.folder}) == record


def test_a_crash_before_the_seal_leaves_no_artifact(tmp_path: Path) -> None:
    """What was written is no artifact; the scratch folder, with its checkpoints, survives."""
    store, request = Store(tmp_path), tiny_request(tmp_path, act="crash")
    with pytest.raises(ZeroDivisionError):
        run_stage(tiny, request)
    assert store.damage("tiny", request.key) == "artifact deleted"
    work = store.open_work("tiny", request.key)
    assert list((work / "artifact").iterdir()) == []
    assert len((work / "scratch" / "starts.txt").read_text().splitlines()) == 1


@pytest.mark.parametrize("step", ["_write_manifest", "replace_folder"])
def test_a_full_disk_at_the_seal_is_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The message says what to do, nothing half is left, and another run succeeds."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    request = tiny_request(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Store if step == "_write_manifest" else store_module, step, full)
        with pytest.raises(ArtifactError, match=r"no disk space left.*set store.folder"):
            run_stage(tiny, request)
    assert Store(tmp_path).damage("tiny", request.key) == "artifact deleted"
    assert run_stage(tiny, request).number == 1


def test_no_stage_starts_on_an_almost_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not write its manifest; better to say so before an hour of training."""
    usage = shutil._ntuple_diskusage(10**9, 10**9, 1024)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ArtifactError, match="0 MiB free, at least 64 MiB needed to start tiny"):
        run_stage(tiny, tiny_request(tmp_path))


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file stands where the store's folder should be."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "tiny").write_text("a file")
    with pytest.raises(ArtifactError, match="cannot be written"):
        Store(tmp_path / "store").open_work("tiny", "k")


def test_a_lock_that_cannot_be_made_is_advice(tmp_path: Path) -> None:
    """Nothing can be computed there either; it is told as one message, not as an OSError."""
    (tmp_path / "locks").write_text("a file")
    with pytest.raises(ArtifactError, match="locks: cannot be written"):
        run_stage(tiny, tiny_request(tmp_path))


@pytest.mark.parametrize(
    "make", [lambda at: at.write_text("a file"), lambda at: at.symlink_to("x")]
)
def test_an_artifact_takes_its_place_from_what_is_no_folder(
    tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    """A file, or a link to nowhere, that somebody left there is no artifact."""
    request = tiny_request(tmp_path)
    (tmp_path / "tiny").mkdir()
    make(tmp_path / "tiny" / request.key)
    assert run_stage(tiny, request).number == 1
    assert Store(tmp_path).damage("tiny", request.key) is None


def test_an_artifact_is_listed_though_its_run_was_killed_right_after_the_seal(
    stored: tuple[Store, str, Made],
) -> None:
    """What the key was made of is written behind the seal; `retune verify` reads it anyway."""
    store, key, _ = stored
    shutil.rmtree(store.root / "known")
    assert store.artifacts() == store.artifacts("tiny") == [("tiny", key)]


def test_a_work_folder_that_a_killed_run_left_goes_with_the_next_use(
    stored: tuple[Store, str, Made],
) -> None:
    """Not while the key is held: whoever holds it is at work there."""
    store, key, _ = stored
    work = store.folder("tiny", key).with_name(f"{key}.work")
    (work / "scratch").mkdir(parents=True)
    with store.lock(key):
        store.remove_left_work("tiny", key)
        assert work.is_dir()
    run_stage(tiny, tiny_request(store.root, number=7))
    assert not work.exists()


def test_what_cannot_be_removed_of_an_earlier_try_is_no_part_of_an_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage does not begin: what lies there would be sealed with what it writes."""
    request = tiny_request(tmp_path)
    left = tmp_path / "tiny" / f"{request.key}.work" / "artifact" / "left.txt"
    left.parent.mkdir(parents=True)
    left.write_text("of a killed run")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(ArtifactError, match="cannot be written"):
            run_stage(tiny, request)
    assert not (run_stage(tiny, request).folder / "left.txt").exists()


def test_keys_are_remembered_when_artifacts_are_deleted(stored: tuple[Store, str, Made]) -> None:
    """Explanations need the parts of earlier keys; a broken note among them does no harm."""
    store, key, record = stored
    shutil.rmtree(record.folder)
    (store.root / "known" / "tiny" / "broken.json").write_text('{"stage": ')
    [(known, parts)] = store.known_keys("tiny")
    assert (known, parts["tiny.number"]) == (key, 7)


def test_a_record_of_another_version_is_an_artifact_error(
    stored: tuple[Store, str, Made],
) -> None:
    """A field that this version does not know is told, not thrown as a validation error."""
    from retune.records import DatasetRef

    store, key, _ = stored
    with pytest.raises(ArtifactError, match="does not fit DatasetRef of this version"):
        store.load("tiny", key, DatasetRef)


RUN = """
import sys
from pathlib import Path
from retune.spine.stage import run_stage
from tests.retune.tiny_stages import tiny, request
run_stage(tiny, request(Path(sys.argv[1]), act=sys.argv[2], place=sys.argv[3]))
"""


def start(store: Path, act: str, place: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(store), act, str(place)], cwd=REPOSITORY
    )


def test_two_processes_compute_a_key_once(tmp_path: Path) -> None:
    """One computes, the other waits for it and reuses what it made."""
    place = tmp_path / "computed.txt"
    processes = [start(tmp_path / "store", "slow", place) for _ in range(2)]
    assert [process.wait(GUARD_SECONDS) for process in processes] == [0, 0]
    assert len(place.read_text().splitlines()) == 1


def test_a_killed_holder_frees_its_key(tmp_path: Path) -> None:
    """A lock dies with its process: after kill -9 the next run starts at once, with the scratch."""
    place = tmp_path / "waiting.txt"
    holder = start(tmp_path / "store", "once", place)
    try:
        wait_until(place.exists, what="the holder")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert start(tmp_path / "store", "once", place).wait(GUARD_SECONDS) == 0
    [manifest] = (tmp_path / "store" / "tiny").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["record"]["number"] == 1
