"""Weights that are not what `config.json` says, or are no numbers, are named before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from retune.errors import ConfigError
from retune.inference.loaded_models import load_causal_model
from retune.modeling.heads import add_head
from retune.modeling.weights import check_weights
from tests.tiny_models import write_snapshot

NAME = "model.layers.1.mlp.down_proj.weight"
Spoil = Callable[[dict[str, torch.Tensor]], object]


def change_weights(folder: Path, spoil: Spoil) -> None:
    weights = load_file(folder / "model.safetensors")
    spoil(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **settings: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **settings}), "utf-8")


@pytest.mark.parametrize(
    "family", ["llama", "tied_llama", "gpt2", "gemma3_image_text", "gpt_oss_mxfp4", "nf4_llama"]
)
def test_whole_weights_are_taken(family: str, tmp_path: Path) -> None:
    """In every form that models are kept in."""
    check_weights(write_snapshot(tmp_path / family, family))


@pytest.mark.parametrize(
    "check",
    [
        check_weights,
        lambda one: load_causal_model(one, dtype=torch.float32, device=torch.device("cpu")),
    ],
    ids=["checked", "loaded"],
)
def test_another_shape_is_told_with_both(check: Callable[[Path], object], tmp_path: Path) -> None:
    """Of the files and of the configuration; 128 wide feed-forward, said to be 192."""
    folder = write_snapshot(tmp_path / "llama", "llama")
    change_config(folder, intermediate_size=192)
    said = "6 weights have another shape.*down_proj.weight is 64 x 128 in the files, and 64 x 192"
    with pytest.raises(ConfigError, match=said):
        check(folder)


def broken(weight: torch.Tensor, value: float) -> torch.Tensor:
    weight[3, 5] = value
    return weight


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda w: w.pop(NAME), f"1 weights are missing.*{NAME}"),
        (
            lambda w: w.update({NAME: broken(w[NAME], float("nan"))}),
            "has 1 values that are no",
        ),
        (
            lambda w: w.update({NAME: broken(w[NAME], float("-inf"))}),
            "has 1 values that are no",
        ),
        (lambda w: w.update({NAME: w[NAME].to(torch.int8)}), "is stored as int8"),
    ],
    ids=["missing", "NaN", "infinite", "integers"],
)
def test_a_wrong_weight_is_named(spoil: Spoil, said: str, tmp_path: Path) -> None:
    """With its file and what is wrong with it."""
    folder = write_snapshot(tmp_path / "llama", "llama")
    change_weights(folder, spoil)
    with pytest.raises(ConfigError, match=said):
        check_weights(folder)


ADAPTED = "model.layers.0.self_attn.q_proj.lora_A.default.weight"


@pytest.mark.parametrize(
    ("settings", "more", "said"),
    [
        (
            {"num_hidden_layers": 1},
            None,
            r"hold 1 more blocks than config\.json says \(model\.layers\.1\)",
        ),
        ({}, ADAPTED, f"1 weights are those of an adapter .{ADAPTED}"),
    ],
    ids=["blocks", "adapter"],
)
def test_weights_that_would_be_left_out_are_named(
    settings: dict[str, Any], more: str | None, said: str, tmp_path: Path
) -> None:
    """The library passes them over: half a model, or one without what it learned."""
    folder = write_snapshot(tmp_path / "llama", "llama")
    change_config(folder, **settings)
    if more:
        change_weights(folder, lambda weights: weights.update({more: torch.zeros(2, 64)}))
    with pytest.raises(ConfigError, match=said):
        check_weights(folder)


@pytest.mark.parametrize(
    "names",
    [
        ("model.layers.0.self_attn.rotary_emb.inv_freq",),
        ("mtp.layers.0.mlp.down_proj.weight", "mtp.fc.weight"),
        ("model.layers.2.mlp.down_proj.weight", "model.layers.2.eh_proj.weight"),
        ("vision_tower.layers.0.mlp.down_proj.weight",),
    ],
)
def test_weights_of_other_parts_are_left_out(names: tuple[str, ...], tmp_path: Path) -> None:
    """Buffers of old releases, blocks that predict further tokens, and towers."""
    folder = write_snapshot(tmp_path / "llama", "llama")
    change_weights(folder, lambda w: w.update({name: torch.zeros(4) for name in names}))
    check_weights(folder)


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    """As a copy that was broken off leaves it."""
    folder = write_snapshot(tmp_path / "llama", "llama")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ConfigError, match=r"model\.safetensors.*cut or damaged|cannot be loaded"):
        check_weights(folder)


def test_a_classifier_of_other_classes_gets_a_new_head(tmp_path: Path) -> None:
    """Its old head of five is none of what is trained."""
    folder = write_snapshot(tmp_path / "llama", "llama")
    old = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=5)
    old.save_pretrained(folder)
    check_weights(folder, AutoModelForSequenceClassification)
    made = add_head(
        folder,
        labels=("a", "b"),
        pad_token_id=0,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    assert made.score.weight.shape == (2, 64)


def test_a_classifier_is_no_model_that_writes(tmp_path: Path) -> None:
    """It has no output head for words, and transformers would draw one at random."""
    folder = write_snapshot(tmp_path / "llama", "llama")
    AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(folder)
    with pytest.raises(ConfigError, match=r"1 weights are missing.*lm_head\.weight"):
        check_weights(folder, AutoModelForCausalLM)
