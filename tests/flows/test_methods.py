"""The flow over other methods than low-rank adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from retune.recipe.sections import FullConfig, LoraConfig, QloraConfig
from tasks.telling import describe_method
from tests.flows.conftest import last_json, retune, write_project

pytestmark = pytest.mark.slow


def test_full_fine_tuning_goes_through_the_whole_flow(tmp_path: Path) -> None:
    """All weights trained, scored as they are, saved for release, decided and registered.

    In float32 the released weights are the trained ones, so that both give the same figures.
    """
    recipe = write_project(tmp_path / "project")
    written = yaml.safe_load(recipe.read_text("utf-8"))
    written |= {"method": {"kind": "full"}, "quantization": {"kind": "none"}}
    recipe.write_text(yaml.safe_dump(written), "utf-8")
    summary = last_json(retune(recipe, "--json"))
    assert list(summary["models"]) == ["base", "adapter", "merged"]
    perplexity = {role: each["perplexity"]["value"] for role, each in summary["models"].items()}
    assert perplexity["adapter"] < perplexity["base"]
    assert perplexity["merged"] == pytest.approx(perplexity["adapter"], rel=1e-6)
    assert summary["decision"]["reasons"]
    assert summary["registered"]["answers_equal"] == summary["registered"]["rows_checked"] == 2
    ran = {line["name"]: line["state"] for line in summary["stages"]}
    assert {"train_adapter", "merge_adapter", "decide", "register_model"} <= set(ran)
    again = last_json(retune(recipe, "--json"))
    assert {line["state"] for line in again["stages"] if line["name"] != "decide"} == {"reused"}


def test_a_model_card_names_the_method() -> None:
    """In words, with what decides the size of the adapter."""
    assert describe_method(FullConfig(), "none") == "full fine-tuning: all weights"
    assert describe_method(LoraConfig(r=4, alpha=8), "none") == "LoRA, r = 4, alpha = 8"
    qlora = QloraConfig(dora=True, modules_to_save=("lm_head",))
    said = "DoRA over NF4 weights, r = 16, alpha = 32, and all of lm_head"
    assert describe_method(qlora, "nf4") == said
