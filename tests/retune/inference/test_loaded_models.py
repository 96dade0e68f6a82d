"""Loading models: nothing made up, nothing silently without gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file, save_file

from retune.errors import ConfigError
from retune.inference.loaded_models import ModelSlot, load_causal_model
from retune.model_records import BaseRef, ModelRef

CPU = torch.device("cpu")
Copy = Callable[[Path], Path]


def load(folder: Path) -> torch.nn.Module:
    return load_causal_model(folder, dtype=torch.float32, device=CPU)


def linear4bits(model: torch.nn.Module) -> Iterator[tuple[str, Linear4bit]]:
    return ((name, m) for name, m in list(model.named_modules()) if isinstance(m, Linear4bit))


def dequantized(folder: Path) -> torch.nn.Module:
    """The same model with each 4-bit layer as a plain one of the values that it stands for."""
    model = load(folder)
    for name, layer in linear4bits(model):
        plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        plain.weight.data = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, plain)
    return model


def gradient_after_evaluation(model: torch.nn.Module) -> torch.Tensor | None:
    """Evaluate once, then return the loss's gradient on the embedding, below all layers."""
    ids = torch.arange(3, 23).unsqueeze(0)
    model.requires_grad_(False)
    embedding = model.get_input_embeddings().weight
    embedding.requires_grad_(True)
    model.eval()
    with torch.no_grad():
        model(input_ids=ids)
    model.train()
    model(input_ids=ids, labels=ids).loss.backward()
    return None if embedding.grad is None else embedding.grad.clone()


def test_evaluation_leaves_gradients_as_they_are(quantize: Callable[[str], ModelRef]) -> None:
    """NF4 layers give the gradient of the plain layers that they stand for.

    Both multiply the same float32 values, in another order at most: 1e-4 of the largest value.
    """
    folder = quantize("nf4").folder
    expected = gradient_after_evaluation(dequantized(folder))
    found = gradient_after_evaluation(load(folder))
    assert expected is not None and found is not None
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(), reason="the trap needs a CPU with AVX512-BF16"
)
def test_the_trap_is_real(quantize: Callable[[str], ModelRef]) -> None:
    """With the library's own path on, the same gradient is wrong or gone after an evaluation.

    When this fails, bitsandbytes has mended it and `use_plain_4bit_kernels` can go.
    """
    folder = quantize("nf4").folder
    expected = gradient_after_evaluation(dequantized(folder))
    model = load(folder)
    for _, layer in linear4bits(model):
        layer.support_avx512bf16_for_cpu = True
        layer.compute_dtype = torch.bfloat16
    try:
        found = gradient_after_evaluation(model)
    except RuntimeError as error:
        # With nothing left that needs a gradient, torch itself refuses the backward pass.
        assert "does not require grad" in str(error)
        return
    assert expected is not None
    # The tied head still gives a gradient of its own; what came through the layers is missing.
    assert found is None or (found - expected).abs().max() > 0.05 * expected.abs().max()


def test_a_broken_weights_file_is_a_config_error(base: BaseRef, copied: Copy) -> None:
    """Cut short by a full disk or an interrupted download."""
    folder = copied(base.folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ConfigError, match="cannot be loaded as a causal language model"):
        load(folder)


def test_missing_weights_are_not_made_up(base: BaseRef, copied: Copy) -> None:
    """Transformers fills them with random numbers and a warning; that is a wrong model."""
    folder = copied(base.folder)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"1 weights are missing.*layers\.1\.mlp\.up_proj"):
        load(folder)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "gpt2"])
def test_every_family_loads_whole(snapshot: Callable[[str], Path], family: str) -> None:
    """Tied output heads are not taken for missing weights."""
    assert not load(snapshot(family)).training


def test_the_slot_keeps_one_model(base: BaseRef, snapshot: Callable[[str], Path]) -> None:
    """Two scorers of one model load it once; another model takes its place."""
    slot = ModelSlot()
    first = slot.get(base.as_scored())
    assert slot.get(base.as_scored()) is first
    other = base.as_scored().model_copy(update={"digest": "other"})
    assert slot.get(other) is not first
    assert slot.get(base.as_scored()) is not first
