"""Files that a recipe names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from retune.data.sources import locate_source
from retune.errors import DataError


def test_a_source_is_its_content(tmp_path: Path) -> None:
    """Equal bytes under another name have the same digest: their sha256."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"rows")
    found = {locate_source(tmp_path / name, "data.train").digest for name in ("a", "b")}
    assert found == {hashlib.sha256(b"rows").hexdigest()}


def test_a_missing_file_names_the_recipes_key(tmp_path: Path) -> None:
    """The person mends the recipe, not the program."""
    with pytest.raises(DataError, match=r"^data\.test: .*gone does not exist"):
        locate_source(tmp_path / "gone", "data.test")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """The message says what was found there."""
    with pytest.raises(DataError, match="is a folder"):
        locate_source(tmp_path, "data.train")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """Before any stage runs."""
    (tmp_path / "empty").touch()
    with pytest.raises(DataError, match="is empty"):
        locate_source(tmp_path / "empty", "data.train")
