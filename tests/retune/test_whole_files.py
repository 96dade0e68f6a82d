"""Files that are there whole or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from retune.whole_files import replacing


def test_a_file_takes_its_place_once_it_is_whole(tmp_path: Path) -> None:
    """Until the block ends the old content stands there; then the new one, and nothing beside."""
    path = tmp_path / "new" / "kept.json"
    with replacing(path) as part:
        part.write_text("old", "utf-8")
        assert not path.exists()
    with replacing(path) as part:
        part.write_text("new", "utf-8")
        assert path.read_text("utf-8") == "old"
    assert path.read_text("utf-8") == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_could_not_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    """An error in the middle: what stood there stands, and no half of a file lies beside it."""
    path = tmp_path / "kept.json"
    path.write_text("old", "utf-8")
    with pytest.raises(RuntimeError, match="in the middle"), replacing(path) as part:
        part.write_text("ne", "utf-8")
        raise RuntimeError("in the middle")
    assert path.read_text("utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_share_a_half(tmp_path: Path) -> None:
    """Two trials that end at once: each writes its own, and the last one stands, whole."""
    path = tmp_path / "kept.json"

    both = Barrier(2)

    def write(text: str) -> None:
        with replacing(path) as part:
            part.write_text(text, "utf-8")
            both.wait(timeout=60)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ["a" * 9, "b" * 7]))
    assert path.read_text("utf-8") in ("a" * 9, "b" * 7)
