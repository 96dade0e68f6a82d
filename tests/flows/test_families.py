"""The same recipe over models of other families, as tiny random snapshots from their classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.conftest import last_json, retune, write_project

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "family", ["gemma3", "gemma3_image_text", "gpt2", "gpt_oss_mxfp4", "qwen3"]
)
def test_a_family_goes_through_the_whole_flow(family: str, tmp_path: Path) -> None:
    """Quantized, trained, merged, scored, decided and registered; Llama does so in the other tests.

    The families differ in their template (turns, think block, channels, none at all), their end
    tokens, GPT-2 in its Conv1D layers, and in what their files hold: a vision tower, experts in
    MXFP4.
    """
    recipe = write_project(tmp_path / "project", family)
    summary = last_json(retune(recipe, "--json"))
    assert list(summary["models"]) == ["base", "adapter", "merged"]
    perplexity = {role: each["perplexity"]["value"] for role, each in summary["models"].items()}
    assert perplexity["adapter"] < perplexity["base"]  # four steps at a rate of 0.01 teach it a bit
    assert summary["registered"]["answers_equal"] == summary["registered"]["rows_checked"] == 2
