"""What does not go with a classification head is refused when the recipe is read."""

from __future__ import annotations

import pytest

from retune.errors import ConfigError
from retune.recipe import load_recipe
from tests.retune.recipe.conftest import WriteRecipe

CONFLICTS = {
    "probes.file": "probes:\n  file: cases.yaml\n",
    "probes.counterfactuals": "probes:\n  counterfactuals: pairs.yaml\n",
    "gate.max_forgetting_bits": "gate:\n  max_forgetting_bits: 0.1\n",
    "gate.metric": "gate:\n  metric: perplexity\n",
    "training.watch": "training:\n  watch: sql_execution_match\n",
    "training.packing": "training:\n  packing: true\n",
    "method.kind": "method:\n  kind: frozen\nquantization:\n  kind: nf4\n",
}


@pytest.mark.parametrize("key", CONFLICTS)
def test_what_asks_for_text_does_not_go_with_a_head(write_recipe: WriteRecipe, key: str) -> None:
    """The message names the key; without a head most of them are right."""
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        load_recipe(write_recipe("head: {}\n" + CONFLICTS[key]))


def test_a_head_goes_with_every_method_and_with_perturbed_questions(
    write_recipe: WriteRecipe,
) -> None:
    """Robustness asks for classes, which a head names."""
    more = "head:\n  class_weights: balanced\nprobes:\n  robustness: {}\nmethod:\n  kind: "
    for kind in ("frozen", "full", "lora", "bottleneck", "prefix", "p_tuning", "prompt"):
        loaded = load_recipe(write_recipe(f"{more}{kind}\nquantization:\n  kind: none\n"))
        assert loaded.recipe.head is not None
