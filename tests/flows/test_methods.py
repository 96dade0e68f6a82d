"""The flow over other methods than low-rank adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from retune.recipe.sections import FullConfig, LoraConfig, QloraConfig
from retune.recipe.sections.method import (
    BottleneckConfig,
    PrefixConfig,
    PromptTuningConfig,
    PTuningConfig,
)
from retune.release.methods import describe_method, describe_training
from retune.tracking import connect, default_uri
from tests.flows.conftest import last_json, retune, write_project
from tests.retune.trials.test_results import make_recipe

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


@pytest.mark.parametrize(
    ("method", "quantization"),
    [
        ({"kind": "prefix", "virtual_tokens": 4}, "none"),
        # Trained over quantized weights, released beside those that are not.
        ({"kind": "bottleneck", "size": 8}, "nf4"),
    ],
    ids=["prefix", "bottleneck"],
)
def test_what_cannot_be_merged_is_released_beside_its_base(
    method: dict[str, Any], quantization: str, tmp_path: Path
) -> None:
    """Trained, scored, bundled, scored, decided, registered; then champion, and named by hand.

    The whole flow again reuses every stage. The next run's challenger, of a method whose result is
    merged, meets the bundle as champion: scored over the same rows, it is not scored again.
    """
    recipe = write_project(tmp_path / "project")
    written = yaml.safe_load(recipe.read_text("utf-8"))
    written |= {"method": method, "quantization": {"kind": quantization}}
    recipe.write_text(yaml.safe_dump(written), "utf-8")
    summary = last_json(retune(recipe, "--json"))
    figures = summary["models"]
    assert list(figures) == ["base", "adapter", "merged"]
    assert figures["merged"]["perplexity"]["value"] != figures["base"]["perplexity"]["value"]
    if quantization == "none":
        # The same weights, in the same dtype.
        assert figures["merged"]["perplexity"] == figures["adapter"]["perplexity"]
    ran = {line["name"] for line in summary["stages"]}
    assert {"train_adapter", "bundle_adapter", "register_model"} <= ran
    assert "merge_adapter" not in ran
    assert summary["registered"]["answers_equal"] == summary["registered"]["rows_checked"] == 2
    page = (Path(summary["report"]) / "report.md").read_text("utf-8")
    assert "Released against adapter" in page
    assert "Merged" not in page

    again = last_json(retune(recipe, "--json"))
    assert {line["state"] for line in again["stages"]} == {"reused"}

    uri = default_uri(recipe.parent / ".retune")
    version = str(summary["registered"]["version"])
    connect(uri).set_registered_model_alias("small", "champion", version)
    next_run = last_json(retune(recipe, "--set", "method={kind: lora, r: 2}", "--json"))
    assert next_run["models"]["champion"] == figures["merged"]
    states = {(line["name"], line["role"]): line["state"] for line in next_run["stages"]}
    assert states["merge_adapter", None] == "ran"
    assert states["score_perplexity", "champion"] == "reused"

    bundle = next((recipe.parent / ".retune" / "bundle_adapter").glob("*/manifest.json")).parent
    names = ["models:/small@champion", str(bundle)]
    compared = last_json(retune(recipe, *names, "--json", command="evaluate"))
    said = [each["metrics"]["perplexity"]["value"] for each in compared["models"]]
    assert said == [figures["merged"]["perplexity"]["value"]] * 2


def test_a_model_card_names_the_method() -> None:
    """In words, with what decides the size of the adapter."""
    assert describe_method(FullConfig(), "none") == "full fine-tuning: all weights"
    assert describe_method(LoraConfig(r=4, alpha=8), "none") == "LoRA, r = 4, alpha = 8"
    qlora = QloraConfig(dora=True, modules_to_save=("lm_head",))
    said = "DoRA over NF4 weights, r = 16, alpha = 32, and all of lm_head"
    assert describe_method(qlora, "nf4") == said
    assert describe_method(BottleneckConfig(size=8, after_attention=False), "nf4") == (
        "bottleneck adapters over NF4 weights, size = 8, after the feed-forward layers"
    )
    assert describe_method(BottleneckConfig(), "none") == (
        "bottleneck adapters, size = 64, after attention and the feed-forward layers"
    )
    assert describe_method(PrefixConfig(virtual_tokens=4), "none") == (
        "prefix tuning, 4 virtual tokens in every block"
    )
    assert describe_method(PTuningConfig(encoder="lstm"), "none") == (
        "P-tuning, 20 virtual tokens out of an LSTM"
    )
    assert describe_method(PromptTuningConfig(), "none") == "prompt tuning, 20 virtual tokens"


def test_what_follows_supervised_training_is_named() -> None:
    """DPO and GRPO, in the order in which they run, and only where the recipe has them."""
    recipe = make_recipe(method={"kind": "full"}, quantization={"kind": "none"})
    assert describe_training(recipe, "none") == "full fine-tuning: all weights"
    both = {"dpo": {"pairs": "pairs.jsonl"}, "grpo": {}}
    after = make_recipe(method={"kind": "full"}, quantization={"kind": "none"}, **both)
    assert describe_training(after, "none") == (
        "full fine-tuning: all weights, then DPO on pairs of answers, then GRPO on rewards of its "
        "own answers"
    )
