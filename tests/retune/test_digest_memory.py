"""Digests of large files are remembered across processes, and never believed too easily."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from retune import digest_memory, digests
from retune.digest_memory import LARGE_BYTES, DigestDatabase, Stamp, tells_changes, user_database
from retune.digests import digest_file, only_links_change

IN_A_CHILD = """
import sys
from pathlib import Path
opened = []
sys.addaudithook(lambda event, given: opened.append(given[0]) if event == "open" else None)
from retune.digests import digest_file
print(digest_file(Path(sys.argv[1])), opened.count(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a database of its own, and a process that remembers nothing."""
    if not tells_changes(tmp_path / "file", tmp_path.stat().st_dev):
        pytest.skip(f"{tmp_path} lies on a file system whose change times are not relied on")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_REMEMBERED", {})
    return tmp_path / "cache" / "retune" / "digests.sqlite"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Write a file of the smallest size that is remembered."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\0" * LARGE_BYTES)
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often a file of each name is read through."""
    counted: Counter[str] = Counter()
    real = hashlib.file_digest

    def count(file: BufferedReader, name: str) -> Any:
        counted[Path(file.name).name] += 1
        return real(file, name)

    monkeypatch.setattr(hashlib, "file_digest", count)
    return counted


def forget() -> None:
    """Be like a new process."""
    digests._REMEMBERED.clear()


def in_a_child(path: Path) -> tuple[str, int]:
    """Return a file's digest as another process has it, and how often that opened the file."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_CHILD, str(path)], check=True, capture_output=True, text=True
    )
    digest, opened = done.stdout.split()
    return digest, int(opened)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_another_process_does_not_open_the_file_again(large: Path) -> None:
    """The first child opens it once and the second not at all; after a write the third does."""
    assert in_a_child(large) == (sha256(large), 1)
    assert in_a_child(large) == (sha256(large), 0)
    before = large.stat()
    large.write_bytes(b"\1" * LARGE_BYTES)
    os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert in_a_child(large) == (sha256(large), 1)


def test_a_large_file_just_written_is_read_once(large: Path, reads: Counter[str]) -> None:
    """A stage digests what it wrote, and sealing asks again at once: the tick is waited for."""
    for _ in range(3):
        assert digest_file(large) == sha256(large)
    forget()
    assert digest_file(large) == sha256(large)
    assert reads["model.safetensors"] == 1


def test_a_small_file_is_read_in_every_process(tmp_path: Path, reads: Counter[str]) -> None:
    """Asking the database for it would take as long."""
    path = tmp_path / "small"
    path.write_bytes(b"\0" * (LARGE_BYTES - 1))
    digest_file(path)
    forget()
    digest_file(path)
    assert reads["small"] == 2


def test_a_renamed_file_is_the_same(large: Path, reads: Counter[str]) -> None:
    """An artifact is digested in its work folder and renamed into its place with it."""
    work = large.parent / "work"
    work.mkdir()
    (work / "weights").write_bytes(b"\2" * LARGE_BYTES)
    digest_file(work / "weights")
    work.rename(large.parent / "artifact")
    forget()
    digest_file(large.parent / "artifact" / "weights")
    assert reads["weights"] == 1


def test_a_further_link_is_not_a_change(large: Path, reads: Counter[str]) -> None:
    """Linking and unlinking set the change time; both names are still known afterwards."""
    digest_file(large)
    for change in (
        lambda: os.link(large, large.with_name("version.safetensors")),
        lambda: large.with_name("version.safetensors").unlink(),
    ):
        with only_links_change([large]):
            change()
        forget()
        digest_file(large)
    assert reads == {"model.safetensors": 1}


def test_a_write_while_links_change_is_seen(large: Path, reads: Counter[str]) -> None:
    """The modification time shows that it was not only the links."""
    digest_file(large)
    with only_links_change([large]):
        os.link(large, large.with_name("second"))
        large.write_bytes(b"\3" * LARGE_BYTES)
    assert digest_file(large) == sha256(large)
    assert reads["model.safetensors"] == 2


def test_reading_afresh_corrects_what_is_remembered(large: Path, reads: Counter[str]) -> None:
    """A disk that loses a bit changes no time: the memory says what was, until it is read."""
    user_database().keep(Stamp.of(large.stat()), "0" * 64)
    assert digest_file(large) == "0" * 64
    assert digest_file(large, afresh=True) == sha256(large)
    forget()
    assert digest_file(large) == sha256(large)
    assert reads["model.safetensors"] == 1


def overwrite(memory: Path) -> None:
    memory.write_bytes(b"no database " * 1000)


def cut(memory: Path) -> None:
    os.truncate(memory, 5000)


def flip_a_digit(memory: Path) -> None:
    with sqlite3.connect(memory) as database:
        database.execute("UPDATE digests SET digest = replace(digest, '3', '4')")


def lose_the_table(memory: Path) -> None:
    with sqlite3.connect(memory) as database:
        database.execute("DROP TABLE digests")


@pytest.mark.parametrize("damage", [overwrite, cut, flip_a_digit, lose_the_table])
def test_a_damaged_database_does_no_harm(
    large: Path, memory: Path, reads: Counter[str], damage: Any
) -> None:
    """The file is read, and remembered again."""
    right = digest_file(large)
    assert right == sha256(large) and "3" in right
    damage(memory)
    for _ in range(3):
        forget()
        assert digest_file(large) == right
    # Once at first, once after the damage; twice where the damage shows only on writing.
    assert reads["model.safetensors"] in (2, 3)


def test_without_a_place_to_write_files_are_read(large: Path, memory: Path) -> None:
    """A home that is read-only, or none at all, is no error: here a file stands in its place."""
    memory.parent.parent.write_text("")
    assert digest_file(large) == sha256(large)


def test_a_busy_database_is_not_waited_for_long(
    large: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that holds it only costs the memory."""
    digest_file(large)
    forget()
    monkeypatch.setattr(digest_memory, "_WAIT_SECONDS", 0.0)
    holder = sqlite3.connect(memory)
    holder.execute("BEGIN EXCLUSIVE")
    assert digest_file(large) == sha256(large)
    holder.close()


def test_many_at_once_lose_nothing(memory: Path) -> None:
    """Each of four writers finds all that it and the others kept."""
    stamps = [Stamp(1, number, LARGE_BYTES, 2, 3) for number in range(80)]

    def keep(stamp: Stamp) -> None:
        DigestDatabase(memory).keep(stamp, f"{stamp.inode:064x}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(keep, stamps))
    database = DigestDatabase(memory)
    assert [database.find(each) for each in stamps] == [f"{each.inode:064x}" for each in stamps]


def test_the_database_has_a_largest_size(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest digests go: files that are long deleted are never asked for."""
    monkeypatch.setattr(digest_memory, "_MOST_ROWS", 3)
    stamps = [Stamp(1, number, LARGE_BYTES, 2, 3) for number in range(5)]
    database = DigestDatabase(memory)
    for stamp in stamps:
        database.keep(stamp, "a" * 64)
    assert [database.find(stamp) is not None for stamp in stamps] == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_over_a_network_every_process_reads(
    large: Path, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change times there may be those of another machine, or minutes old."""
    mounted = [SimpleNamespace(mountpoint="/", fstype="nfs4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounted)
    digest_memory._file_system.cache_clear()
    for _ in range(2):
        forget()
        digest_file(large)
    digest_memory._file_system.cache_clear()
    assert reads["model.safetensors"] == 2
