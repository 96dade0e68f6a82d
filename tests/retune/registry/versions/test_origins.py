"""Going on from a version: only over its own base, and only in its own form."""

from __future__ import annotations

from typing import Any

import pytest

from retune.errors import ConfigError
from retune.recipe.recipe import Recipe
from retune.registry.records import VersionManifest
from retune.registry.versions.origins import refuse_unlike_origin
from retune.score_records import GateDecision


def recipe_of(**method: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "small",
            "data": {"train": "train.jsonl"},
            "model": {"id": "model"},
            "registry": {"model_name": "small"},
            "quantization": {"kind": "none"},
            "method": {"kind": "lora", **method},
        }
    )


def manifest_of(recipe: Recipe) -> VersionManifest:
    return VersionManifest(
        model_name="small",
        version=4,
        made_at="2026-01-01T00:00:00Z",
        released="r",
        base="base-digest",
        base_name="model",
        recipe=recipe.model_dump(mode="json"),
        recipe_file="r.yaml",
        sources={},
        sides={},
        rows_digest="",
        template="",
        seeds={},
        libraries={},
        lock_digest=None,
        commit=None,
        machine={},
        stages={},
        digests={},
        decision=GateDecision(digest="d", promote=True, reasons=(), comparisons=()),
    )


def test_the_same_method_may_go_on_with_another_dropout() -> None:
    """Dropout is no part of what the weights mean."""
    refuse_unlike_origin(manifest_of(recipe_of(r=8)), recipe_of(r=8, dropout=0.3), "base-digest")


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ({"r": 16}, r"method.r is 16 here, 8 there"),
        ({"r": 8, "alpha": 5}, r"method.alpha is 5.* here, .* there"),
        ({"kind": "full"}, r"method.kind is full here, lora there"),
    ],
)
def test_another_form_is_refused_by_its_settings(method: dict[str, Any], told: str) -> None:
    """The message names each setting, as it is here and as the champion was trained."""
    with pytest.raises(ConfigError, match=rf"small version 4, the champion, .*{told}"):
        refuse_unlike_origin(manifest_of(recipe_of(r=8)), recipe_of(**method), "base-digest")


def test_another_base_is_refused() -> None:
    """Whatever the form: an adapter means nothing over other weights."""
    with pytest.raises(ConfigError, match="was trained over model, whose content is not that of"):
        refuse_unlike_origin(manifest_of(recipe_of(r=8)), recipe_of(r=8), "other-digest")
