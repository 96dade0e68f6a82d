"""Merging layer by layer: the same as peft's merge of the whole model, bit for bit."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, PeftModel, get_peft_model
from peft import LoraConfig as PeftLora
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, MixtralConfig, PreTrainedModel

from retune.data.chats.tokenizers import load_tokenizer
from retune.errors import StageError
from retune.inference.loaded_models import put_adapter
from retune.model_records import AdapterRef, BaseRef, MergedRef, Placement, StagePlace
from retune.modeling.methods.apply import apply_method
from retune.modeling.placement import PLACES, StagePlaces
from retune.modeling.snapshots import locate_base
from retune.recipe.sections.method import LoraConfig
from retune.records import ChatRef, SideRef
from retune.spine.stage import SilentReporter, Workdir
from retune.weights.lent_weights import Names, find_slots, lent_by_layer
from retune.weights.merge import merge_adapter
from retune.weights.merged_weights import MergedWeights, NotStreamed, put_adapter_unfilled
from retune.weights.saving import emptied, save_streamed
from retune.weights.stages import MergeInputs, MergeSettings
from retune.weights.stored_weights import open_stored
from tests.making import make_workdir, settings_of
from tests.plain_models import load_plain_model
from tests.tiny_models import TOKENIZER

CPU = torch.device("cpu")
IDS = torch.arange(3, 43).view(2, 20)
FIGURES: dict[str, Any] = {
    "trainable_parameters": 1,
    "total_parameters": 2,
    "steps": 1,
    "best_step": 1,
    "resumed_from_step": 0,
    "train_loss": 1.0,
    "validation_loss": None,
    "base_validation_loss": None,
}
ENDS = {"modules_to_save": ["lm_head", "embed_tokens"]}
TOKENS = {"trainable_tokens": ["<|end|>", "<|user|>"]}
EXPERTS = {"target_parameters": ["1.mlp.experts.gate_up_proj", "1.mlp.experts.down_proj"]}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"rslora": True}),
    ("llama", {"dora": True}),
    ("llama", {"init": "mica"}),
    ("llama", {"dora": True, "target_modules": ["embed_tokens", "q_proj"]}),
    ("llama", ENDS),
    ("llama", {"modules_to_save": ["norm"]}),
    ("llama", TOKENS),
    ("tied_llama", ENDS),
    ("tied_llama", TOKENS),
    ("qwen3", {}),
    ("gemma3", {}),
    ("gemma3_image_text", {}),
    ("gpt2", {"target_modules": ["wpe", "c_attn"]}),
    ("gpt2", {"dora": True, "bias": "lora_only"}),
    ("gpt2", {"bias": "all"}),
    ("gpt2", TOKENS),
    ("gpt_oss", EXPERTS),
    ("gpt_oss_mxfp4", EXPERTS),
    ("mixtral", {"target_parameters": ["mlp.experts.gate_up_proj"]}),
    ("nf4_llama", {}),
]


@pytest.fixture(scope="module")
def base_of(
    snapshot: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A snapshot of a family; Mixtral's files hold its experts one by one."""
    mixtral = tmp_path_factory.mktemp("mixtral")

    def find(family: str) -> Path:
        if family != "mixtral":
            return snapshot(family)
        if not any(mixtral.iterdir()):
            torch.manual_seed(0)
            sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
            heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
            config = MixtralConfig(vocab_size=4_096, pad_token_id=0, **sizes, **heads)
            model = AutoModelForCausalLM.from_config(config)
            for weight in model.parameters():
                if weight.ndim == 3:  # made without values
                    torch.nn.init.normal_(weight, std=0.02)
            model.save_pretrained(mixtral)
            AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(mixtral)
        return mixtral

    return find


def write_adapter(base: Path, folder: Path, **method: Any) -> None:
    """Write an adapter whose every weight is another than at its start."""
    torch.manual_seed(1)
    settings = {"kind": "lora", "r": 4, "alpha": 8, **method}
    config = TypeAdapter(LoraConfig).validate_json(json.dumps(settings))
    model = load_plain_model(base, dtype=torch.float32, device=CPU)
    adapted = apply_method(model, config, tokenizer=base)
    for name, weight in adapted.named_parameters():
        if weight.requires_grad and "lora_A" not in name:
            with torch.no_grad():
                weight.add_(torch.randn_like(weight) * 0.05)
    adapted.save_pretrained(folder)


def say(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=IDS).logits
    return logits


class Streamed:
    """A base's files with an adapter over them, and the plain model without values."""

    def __init__(self, base: Path, adapter: Path, scratch: Path) -> None:
        tokenizer = load_tokenizer(base)
        model, self.base = open_stored(base, scratch=scratch, tokenizer=tokenizer)
        self.names, self.plain = Names(model), copy.deepcopy(model)
        emptied(self.plain)
        self.adapted = put_adapter_unfilled(model, adapter)
        self.merged = MergedWeights(self.adapted, self.names, self.base)


def say_by_layer(model: PreTrainedModel | PeftModel, names: Names, weights: Any) -> torch.Tensor:
    with lent_by_layer(model, find_slots(model, names), weights, CPU):
        return say(model)


@pytest.mark.parametrize(
    ("family", "method"), CASES, ids=[f"{f}-{'-'.join(m) or 'plain'}" for f, m in CASES]
)
def test_every_weight_and_logit_is_that_of_the_whole_model(
    family: str, method: dict[str, Any], base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """Reference: peft's own merge of the loaded model, saved by transformers.

    Base, adapter and merged model say the same layer by layer as held whole; afterwards nothing is
    left in them; and the files hold the same weights in shards under the limit.
    """
    base, adapter = base_of(family), tmp_path / "adapter"
    write_adapter(base, adapter, **method)
    whole = put_adapter(load_plain_model(base, dtype=torch.float32, device=CPU), adapter)
    assert isinstance(whole, PeftModel)
    adapted_says = say(whole)
    merged = whole.merge_and_unload(safe_merge=True)
    merged_says, weights = say(merged), dict(merged.named_parameters())
    assert (adapted_says - merged_says).abs().max() < 1e-4 * adapted_says.std()
    merged.save_pretrained(tmp_path / "whole", max_shard_size="300KB")

    ours = Streamed(base, adapter, tmp_path / "scratch")
    assert torch.equal(say_by_layer(ours.adapted, ours.names, ours.base), adapted_says)
    # Merged twice: the first time must leave nothing behind.
    for _ in range(2):
        assert {*ours.merged} == {*weights}
        assert all(torch.equal(ours.merged[name], weights[name]) for name in weights)
    assert torch.equal(say_by_layer(ours.adapted, ours.names, ours.base), adapted_says)
    assert torch.equal(say_by_layer(ours.plain, Names(ours.plain), ours.merged), merged_says)
    assert all(weight.is_meta for weight in ours.plain.parameters())
    options: dict[str, Any] = {"dtype": torch.float32, "max_shard_size": "300KB"}
    save_streamed(ours.plain, ours.merged, tmp_path / "streamed", **options)
    check_folders(tmp_path / "streamed", tmp_path / "whole", limit=300_000)


def check_folders(ours: Path, theirs: Path, *, limit: int) -> None:
    for name in ("config.json", "generation_config.json"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    found, expected = read_weights(ours), read_weights(theirs)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    index = json.loads((ours / "model.safetensors.index.json").read_text("utf-8"))
    assert index["weight_map"].keys() == found.keys()
    for path in ours.glob("*.safetensors"):
        sizes = [weight.nbytes for weight in load_file(path).values()]
        assert sum(sizes) <= limit or len(sizes) == 1


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


class Telling(SilentReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def log(self, message: str) -> None:
        self.said.append(message)


def merge(
    base: BaseRef,
    adapter: Path,
    side: SideRef,
    folder: Path,
    placement: Placement = "device",
    **section: Any,
) -> tuple[MergedRef, list[str]]:
    work, reporter = make_workdir(folder), Telling()
    places = StagePlaces(stages={"merge_adapter": StagePlace(placement=placement)})
    return merge_adapter(
        MergeInputs(
            adapter=AdapterRef(digest="a", folder=adapter, **FIGURES),
            base=base,
            rows=side,
            template=None,
        ),
        settings_of(MergeSettings, merge={"check_rows": 3, **section}),
        Workdir(work.artifact, work.scratch, reporter, context={PLACES: places.model_dump_json()}),
    ), reporter.said


def test_where_a_model_is_held_changes_no_weight_and_no_figure(
    base: BaseRef, held_out: SideRef, tmp_path: Path
) -> None:
    """Whole or block by block: the same files, so the same digest, and the same differences.

    In float32 nothing is rounded: the likeliest tokens are those of the adapter in all 3 rows.
    """
    write_adapter(base.folder, tmp_path / "adapter", dora=True)
    options: dict[str, Any] = {"max_shard_size": "300KB"}
    whole, _ = merge(base, tmp_path / "adapter", held_out, tmp_path / "whole", **options)
    parts, said = merge(
        base, tmp_path / "adapter", held_out, tmp_path / "parts", "offloaded", **options
    )
    assert said == []
    assert parts.digest == whole.digest
    for name in ("max_logit_difference", "logit_spread", "divergence_nats"):
        assert getattr(parts, name) == getattr(whole, name)
    assert (parts.rows_checked, parts.answers_equal) == (3, 3)


def test_block_by_block_a_wrong_shard_is_found(
    base: BaseRef, held_out: SideRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read again is the file, and not what was handed over."""
    from retune.weights import streamed_merge

    save = streamed_merge.save_streamed

    def spoil(model: Any, weights: Any, target: Path, **options: Any) -> Any:
        digests = save(model, weights, target, **options)
        saved = load_file(target / "model.safetensors")
        saved["model.norm.weight"] = saved["model.norm.weight"].nextafter(torch.tensor(9.0))
        save_file(saved, target / "model.safetensors", metadata={"format": "pt"})
        return digests

    monkeypatch.setattr(streamed_merge, "save_streamed", spoil)
    write_adapter(base.folder, tmp_path / "adapter")
    with pytest.raises(StageError, match=r"1 weights are not those that were merged \(model.norm"):
        merge(base, tmp_path / "adapter", held_out, tmp_path / "work", "offloaded")


def test_a_broken_adapter_is_refused(base: BaseRef, held_out: SideRef, tmp_path: Path) -> None:
    """A weight that is not finite makes peft's own check fail, in one layer as in all."""
    write_adapter(base.folder, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(path)
    weights[next(name for name in weights if "lora_B" in name)][0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(StageError, match=r"cannot be merged \(NaNs detected(.|\n)*Nothing was"):
        merge(base, tmp_path / "adapter", held_out, tmp_path / "work")


def test_what_cannot_be_streamed_is_merged_as_a_whole_and_told(
    base: BaseRef, held_out: SideRef, tmp_path: Path
) -> None:
    """An adapter of another kind, made elsewhere: peft merges it, and the line says the cost."""
    torch.manual_seed(1)
    model = load_plain_model(base.folder, dtype=torch.float32, device=CPU)
    names = {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
    adapted = get_peft_model(model, IA3Config(task_type="CAUSAL_LM", **names))
    for name, weight in adapted.named_parameters():
        if "ia3" in name:
            torch.nn.init.normal_(weight, mean=1.0, std=0.2)
    adapted.save_pretrained(tmp_path / "adapter")
    merged, said = merge(base, tmp_path / "adapter", held_out, tmp_path / "work")
    assert len(said) == 1 and "is merged as a whole" in said[0] and "kind IA3" in said[0]
    assert merged.answers_equal == 3
    loaded = load_plain_model(merged.folder, dtype=torch.float32, device=CPU)
    assert (say(loaded) - say(adapted.eval())).abs().max() < 1e-4 * say(loaded).std()


def test_an_end_that_is_learned_apart_from_its_tied_one_is_not_streamed(
    base_of: Callable[[str], Path],
    format_for: Callable[..., ChatRef],
    tmp_path: Path,
) -> None:
    """Made elsewhere: merged, the head is no longer the embedding. peft unties them, as a whole."""
    found = locate_base(str(base_of("tied_llama")), None)
    torch.manual_seed(1)
    model = load_plain_model(found.folder, dtype=torch.float32, device=CPU)
    adapted = get_peft_model(
        model,
        PeftLora(task_type="CAUSAL_LM", target_modules=["q_proj"], modules_to_save=["lm_head"]),
    )
    for weight in adapted.parameters():
        if weight.requires_grad:
            with torch.no_grad():
                weight.add_(torch.randn_like(weight) * 0.05)
    adapted.save_pretrained(tmp_path / "adapter")
    with pytest.raises(NotStreamed, match="one weight of the base, and two of it"):
        Streamed(found.folder, tmp_path / "adapter", tmp_path / "scratch")
    side = format_for(found).side("test")
    merged, said = merge(found, tmp_path / "adapter", side, tmp_path / "work")
    assert "merged as a whole" in said[0]
    assert merged.answers_equal == 3
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= read_weights(merged.folder).keys()
