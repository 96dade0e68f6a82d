"""Bottleneck adapters: where they stand, what they compute, how they are kept, what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from retune.data.chats.tokenizers import load_tokenizer
from retune.errors import ConfigError
from retune.inference.generation import generate_answers
from retune.inference.loaded_models import LoadedModel, put_adapter
from retune.inference.token_losses import score_pairs
from retune.modeling.methods.apply import apply_method
from retune.modeling.methods.blocks import find_sub_layers
from retune.modeling.methods.bottleneck import Bottleneck, BottleneckSettings
from retune.recipe.sections import MethodConfig

FAMILIES = ("llama", "qwen3", "gemma3", "gpt2", "gpt_oss")
IDS = torch.arange(3, 43).view(2, 20)


def bare(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load a snapshot."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    return model


def adapted(folder: Path, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    """Put adapters with first values that are felt on a model."""
    torch.manual_seed(0)
    given = {"kind": "bottleneck", "size": 8, "init_std": 0.1, **settings}
    section = TypeAdapter[Any](MethodConfig).validate_python(given)
    return apply_method(bare(folder, dtype), section).eval()


def logits(model: Any) -> torch.Tensor:
    """Return what a model says to two rows."""
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def test_a_bottleneck_goes_down_through_the_activation_and_up() -> None:
    """Worked by hand: relu([1, 2] . [[1, 1], [0, -1]]^T + [0, 1]) = [3, 0]; times 2, plus 1."""
    layer = Bottleneck(BottleneckSettings(hidden_size=2, size=2, activation="relu"))
    with torch.no_grad():
        layer.down.weight.copy_(torch.tensor([[1.0, 1.0], [0.0, -1.0]]))
        layer.down.bias.copy_(torch.tensor([0.0, 1.0]))
        layer.up.weight.copy_(2 * torch.eye(2))
        layer.up.bias.fill_(1.0)
    assert layer(torch.tensor([1.0, 2.0])).tolist() == [7.0, 1.0]


@pytest.mark.parametrize("family", FAMILIES)
def test_training_starts_from_the_base(family: str, snapshot: Callable[[str], Path]) -> None:
    """With first weights of zero the logits are the base's, and without its adapters always."""
    folder = snapshot(family)
    base = logits(bare(folder))
    near = adapted(folder, init_std=1e-6)
    assert torch.allclose(logits(near), base, atol=1e-5)
    far = adapted(folder)
    assert (logits(far) - base).abs().max() > 0.1 * base.std()
    with far.disable_adapter():
        assert torch.equal(logits(far), base)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_reads_what_its_sub_layer_gives_before_the_block_adds_it(
    family: str, snapshot: Callable[[str], Path]
) -> None:
    """The same model with the formula hooked behind each sub-layer by hand says the same."""
    folder = snapshot(family)
    model, plain = adapted(folder), bare(folder)
    names = find_sub_layers(plain, attention=True, feed_forward=True)
    assert len(names) == 4
    for name in names:
        network = model.get_base_model().get_submodule(name).bottleneck["default"]

        def behind(_: nn.Module, __: Any, output: Any, network: Bottleneck = network) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            down = hidden @ network.down.weight.T + network.down.bias
            up = nn.functional.gelu(down) @ network.up.weight.T + network.up.bias
            return (hidden + up, *output[1:]) if isinstance(output, tuple) else hidden + up

        plain.get_submodule(name).register_forward_hook(behind)
    assert torch.allclose(logits(model), logits(plain), atol=1e-5)


def test_without_the_residual_the_adapter_alone_goes_on(snapshot: Callable[[str], Path]) -> None:
    """With weights of zero nothing is added to a block's input: its sub-layers are cut off."""
    model = adapted(snapshot("llama"), residual=False)
    layer = model.get_base_model().get_submodule("model.layers.0.mlp")
    with torch.no_grad():
        for weight in layer.bottleneck.parameters():
            weight.zero_()
    assert layer(torch.ones(1, 3, 64)).abs().max() == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_adapter_comes_back(
    family: str, snapshot: Callable[[str], Path], tmp_path: Path
) -> None:
    """The folder has peft's two files, and put on the base it gives the same logits."""
    model = adapted(snapshot(family))
    model.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
    assert (settings["peft_type"], settings["size"], settings["hidden_size"]) == (
        "BOTTLENECK",
        8,
        64,
    )
    again = put_adapter(bare(snapshot(family)), tmp_path)
    assert torch.equal(logits(again), logits(model))
    assert not any(weight.requires_grad for weight in again.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_change_neither_losses_nor_answers(
    family: str, snapshot: Callable[[str], Path]
) -> None:
    """A row alone gets what it gets beside others, with a cache and padding on either side."""
    folder = snapshot(family)
    model = adapted(folder)
    rows = [list(range(3, 3 + length)) for length in (5, 40, 12, 25)]
    pairs = [(row[:-2], row[-2:]) for row in rows]
    alone = score_pairs(model, pairs, batch_size=1, pad_id=0)
    for side in ("left", "right"):
        batch = score_pairs(model, pairs, batch_size=4, pad_id=0, padding_side=side)
        for one, other in zip(alone, batch, strict=True):
            assert one.nll_sum_nats == pytest.approx(other.nll_sum_nats, abs=1e-4)
    loaded = LoadedModel(model, load_tokenizer(folder), [])
    single, together = (
        generate_answers(loaded, rows, max_new_tokens=12, batch_size=size) for size in (1, 4)
    )
    assert single == together


def test_beside_16_bits_the_adapter_stays_in_float32(snapshot: Callable[[str], Path]) -> None:
    """What it learns is not rounded, and the model goes on in its own dtype."""
    model = adapted(snapshot("llama"), torch.bfloat16)
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    assert {weight.dtype for weight in learned} == {torch.float32}
    said = model(input_ids=IDS).logits
    assert said.dtype == torch.bfloat16
    said.float().sum().backward()
    assert all(weight.grad is not None for weight in learned)


def test_merging_is_refused_with_the_reason(snapshot: Callable[[str], Path]) -> None:
    """No weights of the base can do what a network with a bend in it does."""
    with pytest.raises(ConfigError, match=r"cannot be merged: .* no linear function"):
        adapted(snapshot("llama")).merge_and_unload()


def test_a_model_without_blocks_is_told_what_it_has(snapshot: Callable[[str], Path]) -> None:
    """The message lists the lists of layers, and the sub-layers where they are others."""
    model = bare(snapshot("llama"))
    for block in model.get_submodule("model.layers"):
        block.add_module("second_mlp", nn.Linear(64, 64))
    with pytest.raises(ConfigError, match=r"model.layers.0 .* has: self_attn, mlp, second_mlp"):
        find_sub_layers(model, attention=True, feed_forward=True)
    model.config.num_hidden_layers = 3
    with pytest.raises(ConfigError, match=r"no list of 3 blocks .* lists are: model.layers"):
        find_sub_layers(model, attention=True, feed_forward=True)
