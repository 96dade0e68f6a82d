"""Content digests: equal content, equal digest, and nothing else counts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from retune import digests
from retune.digests import (
    canonical_json,
    digest_file,
    digest_folder,
    digest_json,
    list_files,
)
from retune.errors import DataError


def test_the_digest_of_json_is_that_of_its_sorted_text() -> None:
    """The canonical text has sorted keys and no spaces, so its sha256 can be had by hand."""
    by_hand = hashlib.sha256('{"a":[1,2.5],"b":"ção"}'.encode()).hexdigest()
    assert digest_json({"b": "ção", "a": [1, 2.5]}) == by_hand


def test_not_a_number_has_no_digest() -> None:
    """JSON has no NaN, and two NaN would not even be equal."""
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"loss": float("nan")})


def test_a_file_digest_is_its_sha256(tmp_path: Path) -> None:
    """The digest is what `sha256sum` prints."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    # FIPS 180-2, example B.1.
    assert digest_file(path).startswith("ba7816bf8f01cfea414140de5dae2223")


def test_a_file_rewritten_with_its_old_time_is_read_again(tmp_path: Path) -> None:
    """A program can set a file's modification time back, and that must not hide a change."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    before = path.stat()
    first = digest_file(path)
    path.write_bytes(b"abd")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digest_file(path) != first


def test_changes_within_one_clock_tick_are_seen(tmp_path: Path) -> None:
    """Two writes can get the same change time: a file that is that young is not remembered."""
    path = tmp_path / "file"
    remembered = dict(digests._REMEMBERED)
    for number in range(50):
        content = f"{number:03d}".encode()
        path.write_bytes(content)
        os.utime(path, ns=(0, 0))
        assert digest_file(path) == hashlib.sha256(content).hexdigest()
    # Newer kernels have finer times, on which the loop alone would show nothing.
    assert remembered == digests._REMEMBERED


def test_an_old_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of many files is asked for at every stage."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    monkeypatch.setattr(digests, "_CLOCK_TICK_NS", 0)
    first = digest_file(path)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert digest_file(path) == first


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(DataError, match=r"gone.txt: cannot be read"):
        digest_file(tmp_path / "gone.txt")


def test_a_folder_is_its_names_and_bytes(tmp_path: Path) -> None:
    """Two folders with the same files are equal wherever they lie; a new name is not."""
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "file").write_text("x")
    assert digest_folder(tmp_path / "one") == digest_folder(tmp_path / "two")
    (tmp_path / "two" / "sub" / "file").rename(tmp_path / "two" / "sub" / "other")
    assert digest_folder(tmp_path / "one") != digest_folder(tmp_path / "two")


def test_what_is_left_out_does_not_count(tmp_path: Path) -> None:
    """Only direct children are left out: a log two levels down is content."""
    for name in ("kept", "log/live", "sub/log"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    names = [path.as_posix() for path in list_files(tmp_path, without=("log",))]
    assert names == ["kept", "sub/log"]
