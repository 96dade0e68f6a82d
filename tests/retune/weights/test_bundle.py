"""Bundling: base and adapter in one folder say what they said apart, or the stage fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from peft import (
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from retune.data.chats.templates import locate_shipped, read_template
from retune.data.chats.tokenizers import end_token_ids, load_tokenizer
from retune.digests import digest_folder
from retune.errors import StageError
from retune.inference.loaded_models import load_causal_model, load_scored_model
from retune.model_records import AdapterRef, BaseRef, MergedRef
from retune.modeling.methods.apply import apply_method
from retune.modeling.snapshots import locate_base
from retune.recipe.sections.method import BottleneckConfig, MethodKind
from retune.records import ChatRef, SideRef, Source
from retune.spine.stage import Workdir
from retune.weights import bundle as bundling
from retune.weights.bundle import bundle_adapter
from retune.weights.merge import merge_adapter
from retune.weights.stages import BundleSettings, MergeInputs, MergeSettings
from tests.making import settings_of

CPU = torch.device("cpu")
TOKENS = 4
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
CONFIGS: dict[MethodKind, Callable[[], PeftConfig]] = {
    "prefix": lambda: PrefixTuningConfig(num_virtual_tokens=TOKENS, task_type="CAUSAL_LM"),
    "prompt": lambda: PromptTuningConfig(num_virtual_tokens=TOKENS, task_type="CAUSAL_LM"),
    "p_tuning": lambda: PromptEncoderConfig(
        num_virtual_tokens=TOKENS, encoder_hidden_size=16, task_type="CAUSAL_LM"
    ),
}


def write_prompt_adapter(base: Path, folder: Path, kind: MethodKind, seed: int = 1) -> AdapterRef:
    """Write learned positions, or bottlenecks, that change every answer visibly."""
    torch.manual_seed(seed)
    model = load_causal_model(base, dtype=torch.float32, device=CPU)
    if kind == "bottleneck":
        adapted = cast(PeftModel, apply_method(model, BottleneckConfig(size=8)))
    else:
        adapted = get_peft_model(model, CONFIGS[kind]())
    adapted.save_pretrained(folder)
    weights = load_file(folder / "adapter_model.safetensors")
    strong = {name: torch.randn_like(weight) for name, weight in weights.items()}
    save_file(strong, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "README.md").unlink()
    (folder / "log").mkdir()
    (folder / "log" / "metrics.jsonl").write_text("{}\n", "utf-8")
    return AdapterRef(
        digest=digest_folder(folder, without=("log",)), folder=folder, kind=kind, **FIGURES
    )


def bundle(
    base: BaseRef, adapter: AdapterRef, rows: SideRef, work: Workdir, template: Source | None = None
) -> MergedRef:
    inputs = MergeInputs(adapter=adapter, base=base, rows=rows, template=template)
    return bundle_adapter(inputs, settings_of(BundleSettings, merge={"check_rows": 3}), work)


def logits_of(model: torch.nn.Module) -> torch.Tensor:
    """Return the logits behind the last token; learned positions before the text have some too."""
    ids = torch.arange(3, 23).unsqueeze(0)
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return logits[:, -1]


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("kind", ["prefix", "prompt", "p_tuning", "bottleneck"])
def test_a_bundle_says_what_the_adapter_says(
    kind: MethodKind,
    family: str,
    snapshot: Callable[[str], Path],
    format_for: Callable[..., ChatRef],
    work: Workdir,
    tmp_path: Path,
) -> None:
    """The same weights in the same order: no difference at all. The base alone is elsewhere."""
    base = locate_base(str(snapshot(family)), None)
    adapter = write_prompt_adapter(base.folder, tmp_path / "adapter", kind)

    released = bundle(base, adapter, format_for(base).side("test"), work)

    assert released.max_logit_difference == 0.0
    assert (released.rows_checked, released.answers_equal) == (3, 3)
    scored = released.as_scored()
    said = logits_of(load_scored_model(scored).model)
    plain = logits_of(load_causal_model(base.folder, dtype=torch.float32, device=CPU))
    assert (said - plain).abs().max() > 0.1 * plain.std()


def test_a_bundle_is_never_loaded_without_its_adapter(
    base: BaseRef, held_out: SideRef, work: Workdir, tmp_path: Path
) -> None:
    """Whoever takes the folder for a model gets an error, not the base."""
    adapter = write_prompt_adapter(base.folder, tmp_path / "adapter", "prompt")
    released = bundle(base, adapter, held_out, work)
    with pytest.raises((OSError, ValueError)):
        AutoModelForCausalLM.from_pretrained(released.folder)


def test_a_bundle_is_whole(base: BaseRef, held_out: SideRef, work: Workdir, tmp_path: Path) -> None:
    """Weights, end tokens, tokenizer and the template in use lie in it; notes of training do not.

    The weights are the base's own files, linked where the disk lets it; what a library may write
    in place is a copy.
    """
    adapter = write_prompt_adapter(base.folder, tmp_path / "adapter", "prompt")
    template = locate_shipped("instruction_pt")
    before = digest_folder(base.folder)
    scored = bundle(base, adapter, held_out, work, template).as_scored()
    tokenizer = load_tokenizer(scored.tokenizer)
    assert tokenizer.chat_template == read_template(template)
    theirs = end_token_ids(load_tokenizer(base.folder), base.folder)
    assert end_token_ids(tokenizer, scored.tokenizer) == theirs
    assert scored.adapter is not None
    files = {path.name for path in scored.adapter.iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors"}
    name = "model.safetensors"
    assert (scored.weights / name).samefile(base.folder / name)
    assert not (scored.weights / "config.json").samefile(base.folder / "config.json")
    assert digest_folder(base.folder) == before


def test_a_weight_that_is_lost_is_found(
    base: BaseRef,
    held_out: SideRef,
    work: Workdir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An adapter that is saved wrongly is not released."""
    adapter = write_prompt_adapter(base.folder, tmp_path / "adapter", "prefix")

    def write_zeros(source: Path, target: Path) -> None:
        write(source, target)
        weights = load_file(target / "adapter_model.safetensors")
        zeros = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        save_file(zeros, target / "adapter_model.safetensors", metadata={"format": "pt"})

    write = bundling._write_adapter
    monkeypatch.setattr(bundling, "_write_adapter", write_zeros)
    with pytest.raises(StageError, match="Nothing was released"):
        bundle(base, adapter, held_out, work)


def test_merging_refuses_what_cannot_be_merged(
    base: BaseRef, held_out: SideRef, work: Workdir, tmp_path: Path
) -> None:
    """Said before anything is loaded, with what to do."""
    adapter = write_prompt_adapter(base.folder, tmp_path / "adapter", "prefix")
    inputs = MergeInputs(adapter=adapter, base=base, rows=held_out, template=None)
    with pytest.raises(StageError, match=r"trained by prefix.*bundle_adapter"):
        merge_adapter(inputs, settings_of(MergeSettings, merge={}), work)
