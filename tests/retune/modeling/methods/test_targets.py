"""Which layers get an adapter, and which are refused with a reason."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import torch
from peft import get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM, MambaConfig, PreTrainedModel

from retune.errors import ConfigError
from retune.modeling.methods.lora import as_peft, check_method
from retune.modeling.methods.targets import check_rank, find_targets
from tests.tiny_models import family_config


def tiny(family: str) -> PreTrainedModel:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(family_config(family, 100))


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("llama", "all-linear"),
        ("gpt2", "all-linear"),
        ("llama", ["q_proj", "layers.1.mlp.up_proj"]),
        ("llama", ["embed_tokens", "v_proj"]),
        ("gpt2", ["wpe", "c_attn"]),
        ("llama", r".*\.1\.self_attn\.(q|v)_proj"),
        ("gpt2", r"transformer\.h\.0\..*c_(attn|fc)"),
    ],
)
def test_the_layers_are_those_that_peft_adapts(family: str, targets: str | list[str]) -> None:
    """By name, ending or expression."""
    found = find_targets(tiny(family), targets)
    config = as_peft(r=2, alpha=4, dropout=0.0, target_modules=targets, rslora=False)
    adapted = get_peft_model(tiny(family), config)
    theirs = [
        name.removeprefix("base_model.model.")
        for name, module in adapted.named_modules()
        if isinstance(module, BaseTunerLayer)
    ]
    assert list(found) == theirs
    assert theirs


def test_an_expression_matches_a_name_as_a_whole() -> None:
    """The end of a name is none; the message shows a full name, and the list that is meant."""
    with pytest.raises(ConfigError, match=r"such as model\.(.|\n)*stands for ends of names: \[q_"):
        find_targets(tiny("llama"), "q_proj")
    with pytest.raises(ConfigError, match=r"expression layers.*matches no layer"):
        find_targets(tiny("llama"), r"layers\.1\..*q_proj")


@pytest.mark.parametrize(
    ("family", "targets", "said"),
    [
        ("llama", ["q_proj", "lm_head"], "lm_head is the output head"),
        ("tied_llama", ["lm_head"], "lm_head is the output head"),
        ("llama", r".*(q_proj|lm_head)", "lm_head is the output head"),
        ("tied_llama", ["embed_tokens"], "embed_tokens shares its weights with the output head"),
        ("gpt2", ["wte"], "wte shares its weights with the output head"),
        ("llama", ["q_proj", "norm"], "norm is a LlamaRMSNorm"),
        ("gpt2", ["c_attn", "ln_1"], "ln_1 is a LayerNorm"),
        ("llama", ["mlp"], "mlp is a LlamaMLP"),
        ("llama", r"model\.layers\.0.*", "0 is a LlamaDecoderLayer"),
    ],
)
def test_what_no_adapter_can_stand_beside_is_refused_and_not_offered(
    family: str, targets: str | Sequence[str], said: str
) -> None:
    """Each by its reason; the names that the message offers instead are taken."""
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        find_targets(tiny(family), targets)
    offered = str(caught.value).partition("Name others: ")[2].partition(";")[0].split(", ")
    assert not {"lm_head", "norm", "ln_1"} & {*offered}
    assert find_targets(tiny(family), offered)


def test_a_convolution_gets_no_adapter() -> None:
    """Mamba's is no linear layer; its projections are."""
    config = MambaConfig(vocab_size=100, hidden_size=32, num_hidden_layers=1, state_size=4)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ConfigError, match="conv1d is a Conv1d"):
        find_targets(model, ["in_proj", "conv1d"])
    assert [*find_targets(model, ["in_proj"])] == ["backbone.layers.0.mixer.in_proj"]


def test_what_is_trained_as_a_whole_gets_no_adapter() -> None:
    """all-linear leaves it out by itself."""
    whole = ["model.layers.0.mlp.down_proj"]
    with pytest.raises(ConfigError, match="is trained as a whole"):
        find_targets(tiny("llama"), ["down_proj"], whole)
    assert whole[0] not in find_targets(tiny("llama"), "all-linear", whole)


def test_the_rank_of_what_an_expression_matches_is_checked() -> None:
    """k_proj of the tiny Llama is 64 x 32."""
    layers = find_targets(tiny("llama"), r".*\.k_proj")
    check_rank(layers, 32)
    with pytest.raises(ConfigError, match=r"k_proj, which is 64 x 32.*Write at most 32"):
        check_rank(layers, 33)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_first_values_are_not_taken_out_of_an_embedding(init: str) -> None:
    """Saved, such an adapter has twice the rank, and an embedding's would have once."""
    config = as_peft(
        r=2, alpha=4, dropout=0.0, target_modules=["embed_tokens"], rslora=False, init=init
    )
    with pytest.raises(ConfigError, match="embed_tokens is an embedding"):
        check_method(tiny("llama"), config)
