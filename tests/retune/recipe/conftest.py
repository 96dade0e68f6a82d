"""A small recipe that loads, to be spoiled by the tests one key at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

# The line numbers that tests expect count from `name:` as line 1.
SMALL = """\
name: small
data:
  train: rows/train.jsonl
  databases: rows/databases.jsonl
model:
  id: some/model
registry:
  model_name: small-model
"""

WriteRecipe = Callable[..., Path]


@pytest.fixture
def write_recipe(tmp_path: Path) -> WriteRecipe:
    """Write the small recipe with more lines after it, or another text, to a file."""

    def write(more: str = "", *, text: str | None = None, name: str = "recipe.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SMALL + more if text is None else text, encoding="utf-8")
        return path

    return write
