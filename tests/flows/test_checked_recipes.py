"""Every recipe that ships passes its checks; a file of its own, for another process to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.test_recipes import RECIPES, WITH_TINY, name_of, retune


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_a_recipe_passes_its_checks_in_small(path: Path, tmp_path: Path) -> None:
    """`retune check` looks at model, rows, template and loss mask, and would start a run."""
    variant = "tiny" if path in WITH_TINY else "quick"
    done = retune(tmp_path, "check", str(path), variant=variant)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    assert "retune run would start" in done.stdout
