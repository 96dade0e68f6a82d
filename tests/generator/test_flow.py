"""`make base` in small: the flow that rebuilds what ships in `assets/`."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from generator.flow import pretrain
from generator.settings import BaseRecipe, MoreRecipe, RebuildRecipe
from retune.modeling.snapshots import check_snapshot
from tests.serving import prefect_address
from tests.tiny_models import REPOSITORY

pytestmark = pytest.mark.slow


def test_the_flow_writes_the_shipped_data_and_a_loadable_base(tmp_path: Path) -> None:
    """Three steps of training instead of thousands; the data are those that ship, byte for byte."""
    recipe = RebuildRecipe(
        base=BaseRecipe(steps=2, batch_rows=2), more=MoreRecipe(steps=1, batch_rows=2)
    )
    with temporary_settings({PREFECT_API_URL: prefect_address()}):
        figures = pretrain(assets=tmp_path / "assets", store=tmp_path / "store", recipe=recipe)
    assert figures["steps"] == 3
    check_snapshot(tmp_path / "assets" / "base_tiny")
    shipped = REPOSITORY / "assets"
    for name in (
        "text_to_sql_pt/train.jsonl",
        "text_to_sql_pt/test.jsonl",
        "reviews_pt/train.jsonl",
        "instructions_pt/test.jsonl",
        "base_tiny/tokenizer.json",
    ):
        assert (tmp_path / "assets" / name).read_bytes() == (shipped / name).read_bytes(), name
