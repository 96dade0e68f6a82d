"""Quantizing a base: smaller, measured, and loadable."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForCausalLM

from retune.digests import digest_folder
from retune.errors import DataError
from retune.inference.loaded_models import load_causal_model
from retune.model_records import BaseRef, ModelRef
from retune.modeling.architectures import forget_conversions, read_architecture
from retune.modeling.four_bit import as_bitsandbytes
from retune.modeling.read_weights import ReadWeight
from retune.modeling.reference import REFERENCE_TEXT, read_references

FAMILIES = (
    "llama",
    "llama-bfloat16",
    "tied_llama",
    "gpt2",
    "qwen3",
    "gemma3_image_text",
    "gpt_oss",
)

Quantize = Callable[[str], ModelRef]


def test_the_checkpoint_is_smaller_by_what_nf4_saves(quantize: Quantize) -> None:
    """14 linear layers of a tiny Llama: 4 bit and scales instead of 32.

    A block has q 64x64, k and v 64x32, o 64x64, gate, up and down 64x128: 36,864 weights; two
    blocks 73,728. In float32 294,912 bytes, in 4 bit 36,864: the difference is 258,048, less the
    scales (one float per 64 weights, 4,608 bytes when they are not quantized themselves).
    """
    model = quantize("nf4")
    saved = model.base_footprint_bytes - model.footprint_bytes
    assert 258_048 - 4_608 <= saved <= 258_048


def test_quantizing_costs_a_little(quantize: Quantize) -> None:
    """Both perplexities are measured on the same texts; NF4 moves a random model by under 5 %."""
    model = quantize("nf4")
    ratio = model.reference_perplexity / model.base_reference_perplexity
    assert ratio != 1.0
    assert ratio == pytest.approx(1.0, abs=0.05)


def test_the_checkpoint_loads_as_it_was_measured(quantize: Quantize) -> None:
    """Written once, loaded many times: its layers are 4-bit ones, and the head is not."""
    model = load_causal_model(
        quantize("nf4").folder, dtype=torch.float32, device=torch.device("cpu")
    )
    layers = [name for name, one in model.named_modules() if isinstance(one, Linear4bit)]
    assert len(layers) == 14
    assert not any("lm_head" in name for name in layers)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_read_weight_by_weight_the_checkpoint_is_that_of_transformers(
    family: str, double: bool, snapshot: Callable[[str], Path], tmp_path: Path
) -> None:
    """Reference: transformers loads the whole folder, quantizes and saves it.

    Every file is the same byte for byte, whatever the family: tied ends, transposed weights
    (GPT-2), experts, the text part of an image-text model, stored in 16 bits.
    """
    folder = snapshot(family.removesuffix("-bfloat16"))
    if family.endswith("-bfloat16"):
        half = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        folder = tmp_path / "half"
        # In several files, with an index.
        half.save_pretrained(folder, max_shard_size="200KB")
    found, dtype = read_architecture(folder), torch.float32
    options: dict[str, Any] = {
        "dtype": dtype,
        "quantization_config": as_bitsandbytes(
            double=double, compute_dtype=dtype, storage_dtype=torch.uint8
        ),
    }
    expected = found.model_class.from_pretrained(
        folder, device_map={"": "cpu"}, **options, **found.options
    )
    if found.is_part:
        forget_conversions(expected)
    expected.save_pretrained(tmp_path / "expected")
    ours = load_causal_model(folder, device=torch.device("cpu"), **options)
    ours.save_pretrained(tmp_path / "ours")
    names = sorted(path.name for path in (tmp_path / "expected").iterdir())
    assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == names
    for name in names:
        assert (tmp_path / "ours" / name).read_bytes() == (
            tmp_path / "expected" / name
        ).read_bytes()


def test_no_weight_is_held_beside_its_quantized_form(
    snapshot: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a weight is read, of those that were quantized before it none is there any more.

    14 layers are quantized; embedding, head and norms are the model's own as they were read.
    """
    alive: dict[int, int] = {}
    beside: list[int] = []
    read = ReadWeight.__getitem__

    def noted(weight: ReadWeight, index: Any) -> torch.Tensor:
        found = read(weight, index)
        beside.append(sum(alive.values()))
        storage = found.untyped_storage()
        alive[id(storage)] = found.nbytes if found.ndim == 2 and found.shape[0] < 4096 else 0
        weakref.finalize(storage, alive.pop, id(storage)).atexit = False
        return found

    monkeypatch.setattr(ReadWeight, "__getitem__", noted)
    config = as_bitsandbytes(double=True, compute_dtype=torch.float32, storage_dtype=torch.uint8)
    model = load_causal_model(
        snapshot("llama"),
        dtype=torch.float32,
        device=torch.device("cpu"),
        quantization_config=config,
    )
    assert len(beside) == len(list(model.parameters())) == 21
    assert set(beside) == {0}


def test_the_digest_is_that_of_the_files(quantize: Quantize) -> None:
    """Equal checkpoints have equal digests, wherever they were written."""
    model = quantize("nf4")
    assert model.digest == digest_folder(model.folder)


def test_kind_none_writes_no_weights(quantize: Quantize, base: BaseRef) -> None:
    """Training then starts from the base itself."""
    model = quantize("none")
    assert model.weights(base) == base.folder
    assert list(model.folder.iterdir()) == []
    assert model.footprint_bytes == model.base_footprint_bytes
    assert model.reference_perplexity == model.base_reference_perplexity


def test_the_shipped_reference_text_can_be_read() -> None:
    """It is what a recipe without `quantization.reference_text` is measured on."""
    assert len(read_references(REFERENCE_TEXT)) >= 2


@pytest.mark.parametrize("line", ['{"text": ""}', '{"t": "x"}', '{"text": 3}'])
def test_a_line_without_text_is_named(tmp_path: Path, line: str) -> None:
    """With its file and line."""
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a"}\n' + line)
    with pytest.raises(DataError, match=r"texts\.jsonl:2: expected"):
        read_references(path)
