"""Adaptation methods as peft sees them."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM

from retune.errors import ConfigError
from retune.modeling.methods.lora import as_peft, name_modules
from retune.modeling.methods.targets import find_targets
from tests.tiny_models import family_config


def tiny(family: str) -> torch.nn.Module:
    return AutoModelForCausalLM.from_config(family_config(family, 100))


def test_the_settings_reach_peft() -> None:
    """Each under peft's own name."""
    config = as_peft(r=4, alpha=8, dropout=0.1, target_modules=("q_proj",), rslora=True)
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 8, 0.1)
    assert (config.use_rslora, config.target_modules) == (True, {"q_proj"})
    more = as_peft(
        r=4,
        alpha=8,
        dropout=0.0,
        target_modules="all-linear",
        rslora=False,
        bias="all",
        dora=True,
        modules_to_save=("lm_head",),
        init="pissa",
    )
    assert (more.bias, more.use_dora, more.modules_to_save) == ("all", True, ["lm_head"])
    assert more.init_lora_weights == "pissa"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_all_linear_adapts_every_layer_but_the_head(family: str) -> None:
    """Llama: 7 linear layers a block; GPT-2: 4 Conv1D a block; two blocks each."""
    config = as_peft(r=2, alpha=4, dropout=0.0, target_modules="all-linear", rslora=False)
    names = [name for name, _ in get_peft_model(tiny(family), config).named_parameters()]
    adapted = [name for name in names if "lora_A" in name]
    assert len(adapted) == {"llama": 14, "gpt2": 8}[family]
    assert not any("lm_head" in name for name in adapted)


def test_a_wrong_name_lists_what_there_is() -> None:
    """GPT-2 has no q_proj: the message gives the names that it has."""
    with pytest.raises(ConfigError, match=r"q_proj match no layer.*c_attn, c_fc, c_proj") as caught:
        find_targets(tiny("gpt2"), ["c_attn", "q_proj"])
    assert "c_attn, q_proj match" not in str(caught.value)


def test_names_match_at_a_dot() -> None:
    """`proj` is not the end of the name `q_proj`, and peft would find nothing either."""
    with pytest.raises(ConfigError):
        find_targets(tiny("llama"), ["proj"])
    find_targets(tiny("llama"), ["self_attn.q_proj", "down_proj"])


def test_whole_modules_are_named_at_a_dot() -> None:
    """Peft alone would train every `input_layernorm` for `norm`; a part of a name is enough."""
    assert name_modules(tiny("llama"), ["norm"]) == ("model.norm",)
    found = name_modules(tiny("llama"), ["input_layernorm", "lm_head"])
    assert found == (
        "model.layers.0.input_layernorm",
        "model.layers.1.input_layernorm",
        "lm_head",
    )
    assert name_modules(tiny("llama"), None) == ()
