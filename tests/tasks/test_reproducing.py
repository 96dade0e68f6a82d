"""Making a version again: where its training would run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retune.errors import ConfigError, RetuneError, ServiceError
from retune.recipe.loading import load_recipe
from tasks.reproducing import Original, open_fresh
from tests.tasks.conftest import write_recipe
from tests.waiting import closed_port


@pytest.mark.parametrize(
    ("into", "kind", "told"),
    [
        (None, ConfigError, "--into: is not given"),
        ("fresh", ServiceError, "nobody answers"),
    ],
)
def test_nodes_have_to_answer_and_to_see_the_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    into: str | None,
    kind: type[RetuneError],
    told: str,
) -> None:
    """A version that was trained on a cluster is refused a temporary folder of this machine."""
    with closed_port() as port:
        runner = {"kind": "ray", "address": f"127.0.0.1:{port}"}
        recipe = write_recipe(tmp_path, runner=runner, training={"devices": 2, "batch_size": 8})
        monkeypatch.setattr(Original, "load", lambda *_: load_recipe(recipe))
        original: Any = Original.__new__(Original)
        folder = tmp_path / into if into else None
        with pytest.raises(kind, match=told), open_fresh(original, folder):
            raise AssertionError
