"""Merging: the merged model says what the adapter said, or the stage fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from retune.data.chats.templates import locate_shipped, read_template
from retune.data.chats.tokenizers import end_token_ids, load_tokenizer
from retune.errors import StageError
from retune.inference import loaded_models
from retune.inference.loaded_models import (
    SLOT,
    LoadedModel,
    load_causal_model,
    load_scored_model,
)
from retune.model_records import AdapterRef, BaseRef, MergedRef, ScoredModel
from retune.modeling.methods.lora import as_peft
from retune.modeling.snapshots import locate_base
from retune.records import ChatRef, SideRef
from retune.spine.stage import Workdir
from retune.weights import streamed_merge
from retune.weights.merge import merge_adapter
from retune.weights.stages import MergeInputs, MergeSettings
from tests.making import settings_of

CPU = torch.device("cpu")
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


def write_adapter(
    base: BaseRef, folder: Path, *, std: float = 0.1, seed: int = 1, **method: Any
) -> AdapterRef:
    """Write an adapter that changes every layer visibly."""
    torch.manual_seed(seed)
    model = load_causal_model(base.folder, dtype=torch.float32, device=CPU)
    settings = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear", "rslora": False}
    adapted = get_peft_model(model, as_peft(**(settings | method)))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=std)
    adapted.save_pretrained(folder)
    return AdapterRef(digest="a", folder=folder, **FIGURES)


def merge(base: BaseRef, side: SideRef, work: Workdir, folder: Path, **config: Any) -> MergedRef:
    return merge_adapter(
        MergeInputs(adapter=write_adapter(base, folder), base=base, rows=side, template=None),
        settings_of(MergeSettings, merge={"check_rows": 3, **config}),
        work,
    )


def test_the_merged_model_is_scored_without_loading_it_again(
    base: BaseRef,
    held_out: SideRef,
    work: Workdir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the next stage is given is what it would have loaded from the files, bit for bit."""
    merged = merge(base, held_out, work, tmp_path / "adapter")
    scored = merged.as_scored()
    plain = load_scored_model(scored)

    def refuse(_: ScoredModel) -> LoadedModel:
        raise AssertionError("loaded once more")

    monkeypatch.setattr(loaded_models, "load_scored_model", refuse)
    kept = SLOT.get(scored)
    ours, theirs = kept.model.state_dict(), plain.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert kept.end_ids == plain.end_ids and not kept.model.training
    with pytest.raises(AssertionError, match="loaded once more"):
        SLOT.get(scored.held("nf4", scored.place))


def test_the_snapshot_holds_the_template_in_use(
    base: BaseRef, held_out: SideRef, work: Workdir, tmp_path: Path
) -> None:
    """Whoever serves the merged model writes the prompts that it was trained on."""
    template = locate_shipped("instruction_pt")
    merge_adapter(
        MergeInputs(
            adapter=write_adapter(base, tmp_path / "adapter"),
            base=base,
            rows=held_out,
            template=template,
        ),
        settings_of(MergeSettings, merge={"check_rows": 1}),
        work,
    )
    assert load_tokenizer(work.artifact).chat_template == read_template(template)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_merged_equals_adapter(
    family: str,
    snapshot: Callable[[str], Path],
    format_for: Callable[..., ChatRef],
    work: Workdir,
    tmp_path: Path,
) -> None:
    """In float32 only rounding differs: under a thousandth of the logits' spread.

    Without the adapter the logits are elsewhere, so that the comparison can tell.
    """
    base = locate_base(str(snapshot(family)), None)
    side = format_for(base).side("test")
    merged = merge(base, side, work, tmp_path / "adapter")
    assert merged.max_logit_difference < 1e-3 * merged.logit_spread
    assert (merged.rows_checked, merged.answers_equal) == (3, 3)
    ids = torch.arange(3, 23).unsqueeze(0)
    plain, full = (
        load_causal_model(one, dtype=torch.float32, device=CPU)
        for one in (base.folder, merged.folder)
    )
    adapted = PeftModel.from_pretrained(
        load_causal_model(base.folder, dtype=torch.float32, device=CPU), tmp_path / "adapter"
    )
    with torch.inference_mode():
        said = [model(input_ids=ids).logits for model in (plain, full, adapted)]
    assert (said[1] - said[2]).abs().max() < 1e-3 * said[2].std()
    assert (said[0] - said[2]).abs().max() > 0.1 * said[2].std()


def test_the_merged_snapshot_is_whole(
    base: BaseRef, held_out: SideRef, work: Workdir, tmp_path: Path
) -> None:
    """It can be the base of the next run: tokenizer, template and end tokens are the base's."""
    merged = merge(base, held_out, work, tmp_path / "adapter")
    found = locate_base(str(merged.folder), None)
    ours, theirs = load_tokenizer(found.folder), load_tokenizer(base.folder)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.chat_template == theirs.chat_template
    assert end_token_ids(ours, found.folder) == end_token_ids(theirs, base.folder)


def test_the_models_own_end_tokens_survive_the_merge(
    snapshot: Callable[[str], Path],
    format_for: Callable[..., ChatRef],
    work: Workdir,
    tmp_path: Path,
) -> None:
    """Gemma's second end token stands in its generation settings alone."""
    base = locate_base(str(snapshot("gemma3")), None)
    merged = merge(base, format_for(base).side("test"), work, tmp_path / "adapter")
    tokenizer = load_tokenizer(merged.folder)
    assert end_token_ids(tokenizer, merged.folder) == end_token_ids(tokenizer, base.folder)
    assert len(end_token_ids(tokenizer, merged.folder)) == 2


DOWN = "model.layers.1.mlp.down_proj"


def base_in(
    family: str, dtype: torch.dtype, folder: Path, snapshot: Callable[[str], Path]
) -> BaseRef:
    """Return a snapshot whose weights are kept in a number type, as most on the hub are."""
    shutil.copytree(snapshot(family), folder)
    model = load_causal_model(folder, dtype=torch.float32, device=CPU).to(dtype)
    model.config.dtype = dtype
    model.save_pretrained(folder)
    return locate_base(str(folder), None)


@pytest.mark.parametrize(
    ("family", "dtype", "method"),
    [
        ("llama", torch.bfloat16, {"std": 0.001}),
        ("llama", torch.bfloat16, {"std": 0.1}),
        ("llama", torch.float16, {"r": 32, "alpha": 64, "rslora": True}),
        ("llama", torch.float32, {"dora": True}),
        ("llama", torch.bfloat16, {"target_modules": ["embed_tokens", "q_proj"]}),
        ("tied_llama", torch.bfloat16, {"dora": True}),
        ("gpt2", torch.bfloat16, {"target_modules": ["wpe", "c_attn"]}),
        ("gpt2", torch.float16, {"std": 0.001}),
    ],
)
def test_an_honest_merge_is_released_in_the_bases_own_type(
    family: str,
    dtype: torch.dtype,
    method: dict[str, Any],
    snapshot: Callable[[str], Path],
    format_for: Callable[..., ChatRef],
    work: Workdir,
    tmp_path: Path,
) -> None:
    """Rounding to what the base is kept in is no fault, however little or much was learned."""
    base = base_in(family, dtype, tmp_path / "base", snapshot)
    adapter = write_adapter(base, tmp_path / "adapter", **method)
    inputs = MergeInputs(
        adapter=adapter, base=base, rows=format_for(base).side("test"), template=None
    )
    merged = merge_adapter(inputs, settings_of(MergeSettings, merge={"check_rows": 3}), work)
    assert load_file(merged.folder / "model.safetensors")[FIRST[family]].dtype == dtype
    assert merged.divergence_nats is not None
    assert 0 <= merged.divergence_nats < 0.01


FIRST = {
    "llama": "model.norm.weight",
    "tied_llama": "model.norm.weight",
    "gpt2": "transformer.ln_f.weight",
}


def test_the_number_type_may_be_another(
    base: BaseRef, held_out: SideRef, work: Workdir, tmp_path: Path
) -> None:
    """Files and configuration say it; a float32 base rounded to float16."""
    merged = merge(base, held_out, work, tmp_path / "adapter", dtype="float16")
    assert load_file(merged.folder / "model.safetensors")[f"{DOWN}.weight"].dtype == torch.float16
    assert '"dtype": "float16"' in (merged.folder / "config.json").read_text("utf-8")


def test_rounding_that_costs_too_much_is_refused_with_what_to_write(
    base: BaseRef, held_out: SideRef, work: Workdir, tmp_path: Path
) -> None:
    """The setting that the message names exists, and helps."""
    narrow = {"dtype": "bfloat16", "tolerance": 1e-12}
    with pytest.raises(StageError, match=r"rounded to bfloat16.*Write merge.dtype: float32"):
        merge(base, held_out, work, tmp_path / "adapter", **narrow)
    shutil.rmtree(work.artifact)
    work.artifact.mkdir()
    merge(base, held_out, work, tmp_path / "again", **(narrow | {"dtype": "float32"}))


def spoil_after_saving(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Any], Any]) -> None:
    save = streamed_merge.save_streamed

    def save_and_spoil(model: Any, weights: Any, target: Path, **options: Any) -> Any:
        digests = save(model, weights, target, **options)
        saved = load_file(target / "model.safetensors")
        saved[f"{DOWN}.weight"] = spoil(saved[f"{DOWN}.weight"])
        save_file(saved, target / "model.safetensors", metadata={"format": "pt"})
        return digests

    monkeypatch.setattr(streamed_merge, "save_streamed", save_and_spoil)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda weight: weight * 1.5,
        lambda weight: weight * float("nan"),
        lambda weight: weight.nextafter(weight * 2),
    ],
    ids=["another weight", "NaN", "last digits"],
)
def test_what_was_saved_is_what_was_merged(
    base: BaseRef,
    held_out: SideRef,
    work: Workdir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Any], Any],
) -> None:
    """It is loaded again and compared, so that nothing wrong is released."""
    spoil_after_saving(monkeypatch, spoil)
    with pytest.raises(StageError, match=r"1 weights are not those(.|\n)*Nothing was released"):
        merge(base, held_out, work, tmp_path / "adapter")


def layers_of(adapted: PeftModel) -> list[LoraLayer]:
    return [module for module in adapted.modules() if isinstance(module, LoraLayer)]


def scale(adapted: PeftModel) -> None:
    for layer in layers_of(adapted):
        layer.scaling["default"] *= 2


def lose_one(adapted: PeftModel) -> None:
    torch.nn.init.zeros_(layers_of(adapted)[5].lora_B["default"].weight)


def lose_all(adapted: PeftModel) -> None:
    for layer in layers_of(adapted):
        layer.scaling["default"] = 0.0


def transpose_one(adapted: PeftModel) -> None:
    layer = next(each for each in layers_of(adapted) if each.in_features == each.out_features)
    a, b = layer.lora_A["default"], layer.lora_B["default"]
    a.weight.data, b.weight.data = b.weight.data.T.clone(), a.weight.data.T.clone()


def take_another(adapted: PeftModel) -> None:
    for layer in layers_of(adapted):
        torch.nn.init.normal_(layer.lora_A["default"].weight, std=0.05)


def break_one(adapted: PeftModel) -> None:
    layers_of(adapted)[3].lora_B["default"].weight.data[0] = float("nan")


@pytest.mark.parametrize(
    "wrong", [scale, lose_one, lose_all, transpose_one, take_another, break_one]
)
@pytest.mark.parametrize("std", [0.001, 0.1], ids=["two steps", "many steps"])
def test_a_wrong_merge_fails(
    wrong: Callable[[PeftModel], None],
    std: float,
    base: BaseRef,
    held_out: SideRef,
    work: Workdir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever goes into the weights but the adapter that was asked, even where it is rounded."""
    put, prove = streamed_merge.put_adapter_unfilled, streamed_merge._prove_and_save
    seen: list[PeftModel] = []

    def put_and_remember(*arguments: Any) -> PeftModel:
        seen.append(put(*arguments))
        return seen[-1]

    def merge_wrongly(*arguments: Any) -> Any:
        wrong(seen[-1])
        return prove(*arguments)

    monkeypatch.setattr(streamed_merge, "put_adapter_unfilled", put_and_remember)
    monkeypatch.setattr(streamed_merge, "_prove_and_save", merge_wrongly)
    inputs = MergeInputs(
        adapter=write_adapter(base, tmp_path / "adapter", std=std),
        base=base,
        rows=held_out,
        template=None,
    )
    section = settings_of(MergeSettings, merge={"check_rows": 3, "dtype": "bfloat16"})
    with pytest.raises(StageError, match=r"Nothing was released"):
        merge_adapter(inputs, section, work)


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_beside_one_of_two_tied_ends_is_not_merged(
    target: str,
    snapshot: Callable[[str], Path],
    format_for: Callable[..., ChatRef],
    work: Workdir,
    tmp_path: Path,
) -> None:
    """Made elsewhere: merged, it would change both ends."""
    base = locate_base(str(snapshot("tied_llama")), None)
    adapter = write_adapter(base, tmp_path / "adapter", target_modules=[target, "q_proj"])
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(path)
    torch.manual_seed(3)
    for name, weight in weights.items():
        if "lora_embedding" in name:
            weights[name] = torch.randn_like(weight) * 0.1
    save_file(weights, path, metadata={"format": "pt"})
    inputs = MergeInputs(
        adapter=adapter, base=base, rows=format_for(base).side("test"), template=None
    )
    with pytest.raises(StageError, match="before any rounding"):
        merge_adapter(inputs, settings_of(MergeSettings, merge={"check_rows": 3}), work)


def test_weights_are_cut_into_shards(
    base: BaseRef, held_out: SideRef, work: Workdir, tmp_path: Path
) -> None:
    """Each file stays under the limit unless a single weight is larger."""
    merged = merge(base, held_out, work, tmp_path / "adapter", max_shard_size="200KB")
    shards = list(merged.folder.glob("*.safetensors"))
    assert len(shards) > 1
    for shard in shards:
        sizes = [weight.nbytes for weight in load_file(shard).values()]
        assert sum(sizes) <= 200_000 or len(sizes) == 1
