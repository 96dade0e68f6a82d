"""Experts whose weights lie in one parameter with three dimensions, adapted by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GptOssConfig, PreTrainedModel, Qwen3MoeConfig

from retune.errors import ConfigError
from retune.inference.loaded_models import load_causal_model, put_adapter
from retune.modeling.four_bit import as_bitsandbytes
from retune.modeling.methods.adapter_folders import check_adapter
from retune.modeling.methods.apply import apply_method
from retune.modeling.methods.stacked_weights import list_stacked
from retune.recipe.sections import LoraConfig
from tests.tiny_models import EXPERTS, family_config

Snapshot = Callable[[str], Path]
IDS = torch.arange(3, 43).view(2, 20)
GATE_UP, DOWN = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"
R, ALPHA = 2, 8


def load(folder: Path) -> PreTrainedModel:
    return load_causal_model(folder, dtype=torch.float32, device=torch.device("cpu"))


def adapt(model: PreTrainedModel, **method: Any) -> PeftModel:
    """Adapt with second matrices that are not zero, so that the adapters say something."""
    torch.manual_seed(3)
    settings = {"target_modules": ("q_proj",), "target_parameters": (GATE_UP, DOWN), **method}
    adapted = apply_method(model, LoraConfig(r=R, alpha=ALPHA, **settings))
    assert isinstance(adapted, PeftModel)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return adapted.eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def test_each_expert_gets_a_pair_of_matrices_of_its_own(snapshot: Snapshot) -> None:
    """By hand: W_e + alpha / r * (B_e A_e), transposed, as gpt-oss keeps in before out.

    Of A, rows e * r to (e + 1) * r belong to expert e; of B, each expert has every column whose
    number leaves e when it is divided by the number of experts.
    """
    folder = snapshot("gpt_oss")
    adapted = adapt(load(folder), target_parameters=(f"1.{GATE_UP}",))
    state = adapted.state_dict()
    plain = load(folder)
    learned = {n: w for n, w in adapted.named_parameters() if w.requires_grad}
    ours = [name for name in learned if ".mlp." in name]
    # Block 1 alone: A is (4 * 2) x 64, B is 128 x (4 * 2).
    assert [tuple(learned[name].shape) for name in ours] == [(8, 64), (128, 8)]
    a, b = (learned[name].detach() for name in ours)
    with torch.no_grad():
        for expert in range(EXPERTS):
            update = b[:, expert::EXPERTS] @ a[expert * R : (expert + 1) * R]
            plain.model.layers[1].mlp.experts.gate_up_proj[expert] += ALPHA / R * update.T
        for block, layer in enumerate(plain.model.layers):
            at = f"base_model.model.model.layers.{block}.self_attn.q_proj.lora_"
            both = state[f"{at}B.default.weight"] @ state[f"{at}A.default.weight"]
            layer.self_attn.q_proj.weight += ALPHA / R * both
    assert torch.allclose(logits(adapted), logits(plain), atol=1e-5)
    assert (logits(adapted) - logits(load(folder))).abs().max() > 0.1


def test_what_is_saved_comes_back_and_can_be_put_away(snapshot: Snapshot, tmp_path: Path) -> None:
    """The same logits from files, those of the base without the adapter, and both merged."""
    base = load(snapshot("gpt_oss"))
    said = logits(base)
    adapted = adapt(base)
    expected = logits(adapted)
    with adapted.disable_adapter():
        assert torch.equal(logits(adapted), said)
    adapted.save_pretrained(tmp_path / "adapter")
    again = put_adapter(load(snapshot("gpt_oss")), tmp_path / "adapter")
    assert torch.equal(logits(again), expected)
    again.merge_and_unload(safe_merge=True).save_pretrained(tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert torch.allclose(logits(merged.eval()), expected, atol=1e-5)


def test_experts_that_keep_out_before_in_are_merged_too(tmp_path: Path) -> None:
    """Qwen 3's experts lie the other way round, and its files hold each expert by itself."""
    config = Qwen3MoeConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        moe_intermediate_size=48,
        num_experts=EXPERTS,
        num_experts_per_tok=2,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for weight in list_stacked(model).values():
        torch.nn.init.normal_(weight, std=0.1)
    model.eval().save_pretrained(tmp_path / "base")
    adapted = adapt(model)
    expected = logits(adapted)
    adapted.save_pretrained(tmp_path / "adapter")
    check_adapter(tmp_path / "adapter", tmp_path / "base")
    again = put_adapter(load(tmp_path / "base"), tmp_path / "adapter")
    assert torch.allclose(logits(again), expected, atol=1e-5)
    again.merge_and_unload(safe_merge=True).save_pretrained(tmp_path / "merged")
    assert torch.allclose(logits(load(tmp_path / "merged")), expected, atol=1e-5)


def test_recomputed_activations_give_the_same_gradients(snapshot: Snapshot) -> None:
    """The adapted weights are made inside of what is computed again."""
    found = []
    for again in (False, True):
        adapted = adapt(load(snapshot("gpt_oss"))).train()
        if again:
            adapted.enable_input_require_grads()
            adapted.gradient_checkpointing_enable({"use_reentrant": False})
        adapted(input_ids=IDS, labels=IDS).loss.backward()
        found.append({n: w.grad for n, w in adapted.named_parameters() if w.requires_grad})
    for name, gradient in found[0].items():
        assert gradient is not None and gradient.abs().max() > 0, name
        assert torch.allclose(gradient, found[1][name], atol=1e-6), name


def test_a_frozen_copy_of_the_adapter_says_the_same(snapshot: Snapshot) -> None:
    """Preferences hold an adapter to a second one with its weights, by the names of its weights."""
    adapted = adapt(load(snapshot("gpt_oss")))
    expected = logits(adapted)
    adapted.add_adapter("ref", adapted.peft_config["default"])
    for name, weight in adapted.named_parameters():
        if ".default." in name:
            adapted.get_parameter(name.replace(".default.", ".ref.")).data.copy_(weight.data)
    adapted.set_adapter("ref")
    assert torch.equal(logits(adapted), expected)


def test_the_weights_of_the_cookbook_are_counted() -> None:
    """Of gpt-oss-20b at rank 8, with the experts of three blocks; by hand.

    Attention of a block: q and o between 2,880 and 64 * 64, k and v between 2,880 and 8 * 64:
    8 * (2 * 6,976 + 2 * 3,392) = 165,888, times 24: 3,981,312. Of each of 32 experts of a block,
    2,880 to 5,760 and 2,880 to 2,880: 32 * 8 * (8,640 + 5,760) = 3,686,400, times 3: 11,059,200.
    """
    config = GptOssConfig(num_hidden_layers=24, num_local_experts=32)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        names = [f"{block}.{name}" for block in (7, 15, 23) for name in (GATE_UP, DOWN)]
        adapted = apply_method(model, LoraConfig(r=8, alpha=16, target_parameters=tuple(names)))
    learned = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert learned == 3_981_312 + 11_059_200 == 15_040_512


@pytest.mark.parametrize(
    ("family", "method", "text"),
    [
        (
            "gpt_oss",
            {"target_parameters": (f"1.{DOWN}", f"7.{GATE_UP}")},
            r"parameters: 7.mlp.experts.gate_up_proj match no .* It has: mlp.experts.down_proj, "
            r"mlp.experts.gate_up_proj; .* such as 0.mlp.experts.gate_up_proj",
        ),
        # The end of a name counts from a dot on.
        ("gpt_oss", {"target_parameters": ("up_proj",)}, r"up_proj match no stacked weights"),
        # A bias of each expert has two dimensions.
        ("gpt_oss", {"target_parameters": ("gate_up_proj_bias",)}, r"gate_up_proj_bias match no"),
        ("llama", {}, r"down_proj, mlp.experts.gate_up_proj match .* It has none: no parameter"),
        (
            "gpt_oss",
            {"modules_to_save": ("experts",)},
            r"layers.0.mlp.experts.gate_up_proj belongs to a module of method.modules_to_save",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    family: str, method: dict[str, Any], text: str, snapshot: Snapshot
) -> None:
    """With what there is, before anything is put on the model."""
    model = load(snapshot(family))
    names = [name for name, _ in model.named_parameters()]
    settings: dict[str, Any] = {"r": R, "target_modules": ("q_proj",)}
    settings |= {"target_parameters": (GATE_UP, DOWN), **method}
    with pytest.raises(ConfigError, match=text):
        apply_method(model, LoraConfig(**settings))
    assert [name for name, _ in model.named_parameters()] == names


def test_a_rank_over_the_smaller_side_of_an_expert_is_refused() -> None:
    """Of experts that are 32 wide the second matrix is 32 x 64; attention is wider than that."""
    config = family_config("gpt_oss", 100)
    config.intermediate_size = 32
    model = AutoModelForCausalLM.from_config(config)
    text = (
        r"method.r: 33 is larger .*layers.0.mlp.experts.down_proj, which is 32 x 64 for each of 4"
    )
    with pytest.raises(ConfigError, match=text):
        apply_method(model, LoraConfig(r=33, target_modules=("q_proj",), target_parameters=(DOWN,)))
    apply_method(model, LoraConfig(r=32, target_modules=("q_proj",), target_parameters=(DOWN,)))


def test_a_convolution_is_no_expert() -> None:
    """Its weight has three dimensions too, out x in x width, and is a layer's."""
    model = torch.nn.Sequential(torch.nn.Conv1d(4, 4, 3))
    assert list_stacked(model) == {}


@pytest.mark.parametrize("family", ["gpt_oss", "gpt_oss_mxfp4"])
def test_an_adapter_is_compared_with_the_files_of_its_base(
    family: str, snapshot: Snapshot, tmp_path: Path
) -> None:
    """Experts in 16 bits or in blocks of 4; those of another width are refused."""
    adapt(load(snapshot(family))).save_pretrained(tmp_path / "adapter")
    check_adapter(tmp_path / "adapter", snapshot(family))
    config = family_config("gpt_oss", 100)
    config.intermediate_size = 32
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    with pytest.raises(ConfigError, match=r"mlp.experts has no weights of 128 x 64 in the base"):
        check_adapter(tmp_path / "adapter", tmp_path / "base")
    with pytest.raises(ConfigError, match=r"the base has no model.layers.0.mlp.experts"):
        check_adapter(tmp_path / "adapter", snapshot("llama"))


def test_names_are_written_in_one_order(snapshot: Snapshot, tmp_path: Path) -> None:
    """The order of the recipe changes nothing that is saved."""
    adapt(load(snapshot("gpt_oss"))).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
    assert saved["target_parameters"] == [DOWN, GATE_UP]


def test_experts_stay_as_they_are_stored_beside_weights_in_4_bits(snapshot: Snapshot) -> None:
    """What is not packed becomes float32, but experts keep bits and values, and q_proj learns.

    A convolution, which models with recurrent layers have, is no expert.
    """
    config = as_bitsandbytes(double=True, compute_dtype=torch.bfloat16, storage_dtype=torch.uint8)
    model = load_causal_model(
        snapshot("gpt_oss"),
        dtype=torch.bfloat16,
        device=torch.device("cpu"),
        quantization_config=config,
    )
    stored = {name: weight.clone() for name, weight in model.named_parameters() if weight.dim() > 2}
    model.model.layers[0].conv = torch.nn.Conv1d(2, 2, 3, dtype=torch.bfloat16)

    adapted = apply_method(model, LoraConfig(r=R, alpha=ALPHA, target_modules=("q_proj",)))

    found = dict(adapted.named_parameters())
    assert len(stored) == 4
    for name, weight in stored.items():
        after = found[f"base_model.model.{name}"]
        assert after.dtype == torch.bfloat16 and not after.requires_grad
        assert torch.equal(after, weight)
    for name in ("norm", "layers.0.conv"):
        assert found[f"base_model.model.model.{name}.weight"].dtype == torch.float32
    adapted.train()(input_ids=IDS, labels=IDS).loss.backward()
    learned = [weight for weight in found.values() if weight.requires_grad]
    assert any(weight.grad is not None and weight.grad.abs().max() > 0 for weight in learned)
