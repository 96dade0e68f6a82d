"""Reading a store through: what a disk lost by itself is found, and heals by running again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from retune import digests
from retune.digest_memory import LARGE_BYTES, Stamp, tells_changes, user_database
from retune.digests import digest_file
from retune.hard_links import link_or_copy
from retune.spine.stage import run_stage
from retune.spine.store import Store
from retune.spine.verifying import read_through
from tests.retune.tiny_stages import Made, tiny
from tests.retune.tiny_stages import request as tiny_request


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, str, Made]:
    """One sealed artifact with a large file, in a process whose memory is its own."""
    if not tells_changes(tmp_path / "file", tmp_path.stat().st_dev):
        pytest.skip(f"{tmp_path} lies on a file system whose change times are not relied on")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_REMEMBERED", {})
    request = tiny_request(tmp_path / "store", act="large", number=7)
    return Store(tmp_path / "store"), request.key, run_stage(tiny, request)


def lose_a_bit(path: Path) -> None:
    """Change a byte as a disk does: the memory of what was there stands as if nothing had been."""
    before = digest_file(path)
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    digests._REMEMBERED.clear()
    user_database().keep(Stamp.of(path.stat()), before)


def test_a_lost_bit_is_found_by_reading_and_heals_by_running(
    stored: tuple[Store, str, Made],
) -> None:
    """A run alone goes by what is remembered; once it was read through, it computes anew."""
    store, key, record = stored
    lose_a_bit(record.folder / "weights.safetensors")
    assert store.damage("tiny", key) is None
    found = read_through(store, "tiny", key)
    assert found.damage == "artifact damaged: weights.safetensors changed"
    assert found.request == store.root / "requests" / "tiny" / f"{key}.json"
    digests._REMEMBERED.clear()
    assert store.damage("tiny", key) == found.damage
    assert run_stage(tiny, tiny_request(store.root, act="large", number=7)) == record
    assert read_through(store, "tiny", key).damage is None


def test_what_shares_a_damaged_file_is_named(stored: tuple[Store, str, Made]) -> None:
    """A registered version is a hard link: it is damaged too, and computing anew leaves it so."""
    store, key, record = stored
    version = store.root / "mlflow" / "version" / "model.safetensors"
    version.parent.mkdir(parents=True)
    link_or_copy(record.folder / "weights.safetensors", version)
    assert read_through(store, "tiny", key).linked == ()
    lose_a_bit(version)
    assert read_through(store, "tiny", key).linked == (version,)


def test_what_is_remembered_alone_damages_nothing(stored: tuple[Store, str, Made]) -> None:
    """A wrong digest in the memory has the file read, and no training done again."""
    store, key, record = stored
    weights = record.folder / "weights.safetensors"
    digests._REMEMBERED.clear()
    user_database().keep(Stamp.of(weights.stat()), "0" * 64)
    assert store.damage("tiny", key) is None


def test_artifacts_are_told_from_what_else_lies_in_a_store(
    stored: tuple[Store, str, Made],
) -> None:
    """Work folders, requests, logs and MLflow's own folders are none."""
    store, key, _ = stored
    (store.root / "tiny" / f"{key[::-1]}.work").mkdir()
    (store.root / "logs" / "today").mkdir(parents=True)
    assert store.artifacts() == [("tiny", key)]
    assert store.artifacts("other") == []
    assert read_through(store, "tiny", key).bytes > LARGE_BYTES


@pytest.mark.parametrize("first", [True, False])
def test_a_sealed_file_is_read_once(
    tmp_path: Path, stored: tuple[Store, str, Made], first: bool, reads: Callable[[], int]
) -> None:
    """The stage digests its files, sealing asks for them again, and so does whoever looks it up.

    The scratch folder held a second link to the file: that it goes changes the file's change time.
    """
    store, key, record = stored
    if first:
        request = tiny_request(tmp_path / "store", act="large", number=8)
        run_stage(tiny, request)
        key = request.key
    digests._REMEMBERED.clear()
    assert store.damage("tiny", key) is None
    assert reads() == int(first)
    assert (record.folder / "weights.safetensors").stat().st_nlink == 1


@pytest.fixture
def reads(stored: tuple[Store, str, Made], monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count how often a large file is read through from here on."""
    counted: list[str] = []
    real = digests._read_and_keep

    def count(path: Path) -> str:
        counted.append(path.name)
        return real(path)

    monkeypatch.setattr(digests, "_read_and_keep", count)
    return lambda: counted.count("weights.safetensors")
