"""Merging: the merged model says what the adapter said, or the stage fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from retune.data.chats.templates import locate_shipped, read_template
from retune.data.tokenizers import end_token_ids, load_tokenizer
from retune.errors import StageError
from retune.modeling import merging
from retune.modeling.loading import load_causal_model
from retune.modeling.merging import merge_adapter
from retune.modeling.methods.adapting import as_peft
from retune.modeling.snapshots import locate_base
from retune.records import AdapterRef, BaseRef, ChatRef, MergedRef, SideRef
from retune.requests import MergeInputs, MergeSection
from retune.stage import Workdir
from tests.making import section_of

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


def write_adapter(base: BaseRef, folder: Path) -> AdapterRef:
    """Write an adapter that changes every layer visibly."""
    torch.manual_seed(1)
    model = load_causal_model(base.folder, dtype=torch.float32, device=CPU)
    config = as_peft(r=4, alpha=8, dropout=0.0, target_modules="all-linear", rslora=False)
    adapted = get_peft_model(model, config)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    adapted.save_pretrained(folder)
    return AdapterRef(digest="a", folder=folder, **FIGURES)


def merge(base: BaseRef, side: SideRef, work: Workdir, folder: Path, **config: Any) -> MergedRef:
    return merge_adapter(
        MergeInputs(adapter=write_adapter(base, folder), base=base, rows=side, template=None),
        section_of(MergeSection, merge={"check_rows": 3, **config}),
        work,
    )


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
        section_of(MergeSection, merge={"check_rows": 1}),
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


def spoil_after_saving(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Any], Any]) -> None:
    save = merging._save_merged

    def save_and_spoil(adapted: Any, base: Path, target: Path, size: str) -> None:
        save(adapted, base, target, size)
        weights = load_file(target / "model.safetensors")
        name = "model.layers.1.mlp.down_proj.weight"
        weights[name] = spoil(weights[name])
        save_file(weights, target / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(merging, "_save_merged", save_and_spoil)


@pytest.mark.parametrize(
    "spoil",
    [lambda weight: weight * 1.5, lambda weight: weight * float("nan")],
    ids=["another weight", "NaN"],
)
def test_a_wrong_merge_fails(
    base: BaseRef,
    held_out: SideRef,
    work: Workdir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Any], Any],
) -> None:
    """What was saved is loaded again and compared, so that nothing wrong is released."""
    spoil_after_saving(monkeypatch, spoil)
    with pytest.raises(StageError, match=r"differ from the adapter's(.|\n)*Nothing was released"):
        merge(base, held_out, work, tmp_path / "adapter")


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
