"""What a run is foreseen to write, against what one has written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import last_json, retune

pytestmark = pytest.mark.slow

TEXTS_BYTES = 30_000
"""More than the header of a file of weights takes here."""


def test_weights_are_foreseen_as_they_are_written(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Never more than there is, or a run that fits would be refused; and less by headers alone."""
    recipe, _ = finished
    elsewhere = ["--no-steps", "--json", "--set", f"store.folder={tmp_path / 'store'}"]
    disk = last_json(retune(recipe, *elsewhere, command="estimate"))["disk"]
    foreseen = {each["stage"]: each["stays"] for each in disk["stages"]}
    assert list(foreseen) == ["quantize_model", "train_adapter", "merge_adapter"]
    for stage, size in foreseen.items():
        (weights,) = (recipe.parent / ".retune" / stage).glob("*/*.safetensors")
        assert size <= weights.stat().st_size < size + TEXTS_BYTES, stage
    again = last_json(retune(recipe, "--no-steps", "--json", command="estimate"))["disk"]
    assert again["stages"] == []
