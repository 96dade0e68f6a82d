"""What `retune estimate` refuses before it looks at anything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from retune.cli.app import app
from retune.cli.estimating import say_batch
from retune.errors import ConfigError
from retune.modeling.memory.memory_estimate import BatchSearch
from retune.recipe.recipe import Recipe


def test_an_unknown_device_is_refused() -> None:
    """Before any row is read."""
    result = CliRunner().invoke(app, ["estimate", "none.yaml", "--device", "tpu"])
    assert isinstance(result.exception, ConfigError)
    assert "tpu is neither cpu nor cuda" in str(result.exception)


@pytest.mark.parametrize(
    ("largest", "parts", "said"),
    [
        # 16 / 3 = 5.3: the next number of parts that divides 16 is 4, of 4 rows.
        (5, 1, "at most 5 rows fit 1.0 MiB at once: training.gradient_accumulation=4 takes"),
        (5, 4, "of a step, as the recipe has it"),
        (40, 4, "training.gradient_accumulation=1 takes the 16 rows of a step (now 4)"),
        (1, 1, "training.gradient_accumulation=16"),
        (0, 1, "not one row fits 1.0 MiB"),
    ],
)
def test_the_parts_are_told_in_which_a_step_goes_through(
    largest: int, parts: int, said: str
) -> None:
    recipe = Recipe.model_validate(
        {
            **{"name": "x", "data": {"train": "rows.jsonl"}, "model": {"id": "base"}},
            **{"method": {"kind": "lora"}, "registry": {"model_name": "x"}},
            "training": {"batch_size": 16, "gradient_accumulation": parts},
        }
    )
    found = cast("Any", SimpleNamespace(capacity_bytes=2**20))
    assert said in say_batch(BatchSearch(digest="", largest=largest), found, recipe)
