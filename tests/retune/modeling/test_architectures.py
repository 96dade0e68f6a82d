"""Snapshots that are more, or other, than a text model in plain weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, GptOssForCausalLM, LlamaForCausalLM

from retune.errors import ConfigError
from retune.inference.loaded_models import load_causal_model
from retune.modeling.architectures import plain_config, read_architecture
from retune.modeling.attention import choose_attention
from retune.modeling.methods.lora import as_peft
from retune.modeling.prequantized import check_quantization, quantized_as
from retune.training.packing import attention_of
from tests.plain_models import load_plain_model
from tests.tiny_models import EXPERTS, MXFP4_VALUES, pack_mxfp4

CPU = torch.device("cpu")
IDS = torch.arange(3, 43).view(2, 20)
Snapshot = Callable[[str], Path]
Copy = Callable[[Path], Path]


def load(folder: Path) -> torch.nn.Module:
    return load_causal_model(folder, dtype=torch.float32, device=CPU)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


def test_the_text_part_says_what_the_whole_model_says(snapshot: Snapshot) -> None:
    """Without an image, bit for bit; and the vision tower is in no memory."""
    folder = snapshot("gemma3_image_text")
    whole = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    text = load(folder)
    assert type(text).__name__ == "Gemma3ForCausalLM"
    assert not any("vision" in name or "multi_modal" in name for name, _ in text.named_modules())
    assert torch.equal(logits(text), logits(whole))


@pytest.mark.parametrize("layout", ["language_model.model.", "model.language_model.", "model."])
def test_every_layout_of_the_files_is_found(layout: str, snapshot: Snapshot, copied: Copy) -> None:
    """Where a release keeps its text model has changed twice; the third is a text-only file."""
    folder = copied(snapshot("gemma3_image_text"))
    expected = logits(load(folder))
    weights = load_file(folder / "model.safetensors")
    renamed = {n.replace("language_model.model.", layout): w for n, w in weights.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(logits(load(folder)), expected)


def test_a_saved_text_part_is_a_snapshot_of_its_own(snapshot: Snapshot, tmp_path: Path) -> None:
    """Under the names of the text model, with its configuration."""
    model = load(snapshot("gemma3_image_text"))
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert (config["model_type"], config["architectures"]) == ("gemma3_text", ["Gemma3ForCausalLM"])
    names = set(load_file(tmp_path / "model.safetensors"))
    assert names == {n for n, _ in model.named_parameters()}
    assert torch.equal(logits(load(tmp_path)), logits(model))


def test_a_missing_weight_of_the_text_part_is_not_made_up(snapshot: Snapshot, copied: Copy) -> None:
    """As for any model; what the vision tower lacks is nobody's loss."""
    folder = copied(snapshot("gemma3_image_text"))
    weights = load_file(folder / "model.safetensors")
    weights = {n: w for n, w in weights.items() if "vision_tower" not in n}
    del weights["language_model.model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"1 weights are missing.*layers\.1\.mlp\.up_proj"):
        load(folder)


def test_a_model_without_a_text_model_is_refused(snapshot: Snapshot, copied: Copy) -> None:
    """With what transformers calls it."""
    folder = copied(snapshot("llama"))
    (folder / "config.json").write_text('{"model_type": "siglip_vision_model"}', "utf-8")
    with pytest.raises(ConfigError, match="no text model of its own for siglip_vision_model"):
        load(folder)


def test_mxfp4_is_what_its_blocks_and_scales_say(snapshot: Snapshot) -> None:
    """A value is its level times two to the scale's power: computed here from the packed bytes."""
    folder = snapshot("gpt_oss_mxfp4")
    name = "model.layers.0.mlp.experts.down_proj"
    stored = load_file(folder / "model.safetensors")
    blocks, scales = stored[f"{name}_blocks"], stored[f"{name}_scales"]
    levels = torch.tensor([*MXFP4_VALUES, *(-value for value in MXFP4_VALUES)])
    codes = torch.stack([blocks & 15, blocks >> 4], dim=-1).flatten(-2).long()
    values = levels[codes] * torch.exp2(scales.float() - 127)[..., None]
    loaded = load(folder).get_parameter(name)
    assert loaded.shape == (EXPERTS, 64, 64)
    assert torch.equal(loaded, values.flatten(-2).transpose(1, 2))


def test_the_test_packs_mxfp4_to_the_nearest_level() -> None:
    """By hand: the largest, 5, lies between 4 and 6 at scale 0; 0.3 is nearest to 0.5, 0.2 to 0."""
    weight = torch.zeros(1, 1, 32)
    weight[0, 0, :3] = torch.tensor([5.1, 0.3, -0.2])
    blocks, scales = pack_mxfp4(weight)
    assert scales.item() == 127
    # 5.1 is code 7 (6.0), 0.3 is code 1 (0.5): the first byte has 7 in the low half; -0.2 rounds to
    # zero with its sign, code 8.
    assert blocks[0, 0, 0, :2].tolist() == [7 | 1 << 4, 8]


def test_dequantized_mxfp4_is_saved_as_plain_weights(snapshot: Snapshot, tmp_path: Path) -> None:
    """Transformers alone would write them under the names of the packed blocks."""
    model = load(snapshot("gpt_oss_mxfp4"))
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    assert not any("_blocks" in name for name in load_file(tmp_path / "model.safetensors"))
    assert quantized_as(tmp_path) == "none"
    again, info = GptOssForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert torch.equal(logits(again), logits(model))


def test_all_linear_leaves_experts_and_router(snapshot: Snapshot) -> None:
    """Of gpt-oss, four layers of attention a block; of Gemma 3 seven, none of a vision tower."""
    from peft import get_peft_model

    for family, layers in (("gpt_oss", 4), ("gemma3_image_text", 7)):
        config = as_peft(r=2, alpha=4, dropout=0.0, target_modules="all-linear", rslora=False)
        names = [n for n, _ in get_peft_model(load(snapshot(family)), config).named_parameters()]
        assert sum("lora_A" in name for name in names) == 2 * layers


def test_an_nf4_snapshot_dequantizes_to_what_it_says(snapshot: Snapshot, tmp_path: Path) -> None:
    """The same logits from plain layers, and nothing of the quantization in what is saved.

    Both multiply the same float32 values.
    """
    folder = snapshot("nf4_llama")
    plain = load_plain_model(folder, dtype=torch.float32, device=CPU)
    assert {type(one).__name__ for one in plain.modules()}.isdisjoint({"Linear4bit"})
    assert torch.allclose(logits(plain), logits(load(folder)), atol=1e-5)
    plain.save_pretrained(tmp_path)
    assert quantized_as(tmp_path) == "none"
    assert torch.equal(logits(load(tmp_path)), logits(plain))
    assert not hasattr(plain_config(folder), "quantization_config")


@pytest.mark.parametrize(
    ("written", "kind", "expected"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "nf4", r"is quantized \(fp4\)"),
        ({"quant_method": "gptq", "bits": 4}, "none", r"is quantized \(gptq\)"),
        ({"load_in_8bit": True}, "nf4", r"is quantized \(8-bit bitsandbytes\)"),
        (
            {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            "none",
            r"quantized to NF4 already. Write quantization\.kind: nf4",
        ),
    ],
)
def test_a_base_that_is_quantized_otherwise_is_refused(
    written: dict[str, Any], kind: str, expected: str, tmp_path: Path
) -> None:
    """From config.json alone, with what to write."""
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": written}), "utf-8")
    with pytest.raises(ConfigError, match=expected):
        check_quantization(tmp_path, kind)


def test_a_base_that_fits_is_let_through(tmp_path: Path) -> None:
    """NF4 under nf4, MXFP4 under both, plain weights under both."""
    for written, kinds in (
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, ["nf4"]),
        ({"quant_method": "mxfp4"}, ["none", "nf4"]),
        (None, ["none", "nf4"]),
    ):
        text = json.dumps({"quantization_config": written})
        (tmp_path / "config.json").write_text(text, "utf-8")
        for kind in kinds:
            check_quantization(tmp_path, kind)


def test_attention_is_by_family_and_device(snapshot: Snapshot) -> None:
    """On a CPU sdpa; eager for gpt-oss, whose attention sinks torch's sdpa does not know."""
    for family, expected in (("llama", "sdpa"), ("gemma3", "sdpa"), ("gpt_oss", "eager")):
        model_class = read_architecture(snapshot(family)).model_class
        found = choose_attention("auto", model_class, dtype=torch.float32, device=CPU)
        assert found == expected
        model = load_causal_model(
            snapshot(family), dtype=torch.float32, device=CPU, attn_implementation=found
        )
        assert attention_of(model) == expected


@pytest.mark.parametrize(
    ("name", "model_class", "device", "expected"),
    [
        ("flash_attention_2", LlamaForCausalLM, "cpu", "it needs a GPU, and the model runs on cpu"),
        ("flash_attention_2", GptOssForCausalLM, "cuda", "GptOssForCausalLM does not have it"),
        ("flash_attention_2", LlamaForCausalLM, "cuda", "(not installed|16 bits)"),
        ("sdpa", GptOssForCausalLM, "cpu", "GptOssForCausalLM has no sdpa attention"),
    ],
)
def test_an_attention_that_cannot_be_is_refused(
    name: str, model_class: Any, device: str, expected: str
) -> None:
    """Before training, with the reason."""
    with pytest.raises(ConfigError, match=f"model.attention: .*{expected}"):
        choose_attention(name, model_class, dtype=torch.float32, device=torch.device(device))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "llama9"}, r"model_type is llama9, which transformers \d.* does not have"),
        ({"model_type": "own", "auto_map": {"AutoConfig": "x.Y"}}, "brings code of its own"),
        ({"hidden_size": 3}, "names no model_type"),
        ([], "expected a JSON object"),
    ],
)
def test_a_kind_of_model_that_is_not_known_is_named(
    config: object, said: str, tmp_path: Path
) -> None:
    """With what to do here; a newer transformers is none of it, since versions are pinned."""
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ConfigError, match=said) as caught:
        read_architecture(tmp_path)
    assert "pip install" not in str(caught.value)
