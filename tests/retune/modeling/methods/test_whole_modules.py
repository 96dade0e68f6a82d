"""Embeddings, heads and single tokens that are trained beside an adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from retune.data.chats.tokenizers import load_tokenizer
from retune.errors import ConfigError
from retune.inference.loaded_models import load_causal_model
from retune.modeling.methods.adapter_folders import check_adapter
from retune.modeling.methods.apply import apply_method
from retune.modeling.methods.token_rows import name_token_rows
from retune.modeling.methods.whole_modules import is_tied, name_modules, ties_whole
from retune.recipe.sections import LoraConfig

Snapshot = Callable[[str], Path]
IDS = torch.arange(3, 43).view(2, 20)


def load(folder: Path) -> PreTrainedModel:
    return load_causal_model(folder, dtype=torch.float32, device=torch.device("cpu"))


def step(model: torch.nn.Module) -> None:
    """Learn one batch with a rate that moves every weight that has a gradient."""
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    model(input_ids=IDS, labels=IDS).loss.backward()
    torch.optim.SGD(learned, lr=1.0).step()


def ends(model: PeftModel) -> tuple[torch.Tensor, torch.Tensor]:
    base = model.get_base_model()
    return base.get_input_embeddings().weight, base.get_output_embeddings().weight


@pytest.mark.parametrize("asked", [["lm_head"], ["embed_tokens"], ["lm_head", "embed_tokens"]])
def test_tied_ends_are_trained_as_one(asked: list[str], snapshot: Snapshot) -> None:
    """Whichever is named: one weight, and both ends have it after each step."""
    model = load(snapshot("tied_llama"))
    names = name_modules(model, asked)
    assert names == ("model.embed_tokens",)
    assert ties_whole(model, names)
    before = model.get_input_embeddings().weight.detach().clone()
    adapted = apply_method(model, LoraConfig(r=2, modules_to_save=tuple(asked)))
    assert isinstance(adapted, PeftModel)
    step(adapted)
    embedding, head = ends(adapted)
    assert torch.equal(embedding, head)
    assert not torch.equal(embedding, before)


def test_untied_ends_stay_two(snapshot: Snapshot) -> None:
    """Each is trained by itself."""
    model = load(snapshot("llama"))
    names = name_modules(model, ["lm_head", "embed_tokens"])
    assert names == ("model.embed_tokens", "lm_head")
    assert not is_tied(model) and not ties_whole(model, names)


def test_tied_ends_that_peft_would_part_are_refused(snapshot: Snapshot) -> None:
    """Peft knows GPT-2's `wte` when it trains, and forgets the tie when it loads what it saved."""
    with pytest.raises(ConfigError, match=r"wte shares its weights.*method\.trainable_tokens"):
        name_modules(load(snapshot("gpt2")), ["wte"])


@pytest.mark.parametrize(("family", "rows"), [("tied_llama", 1), ("llama", 2), ("gpt2", 1)])
def test_the_rows_of_named_tokens_move_and_no_others(
    family: str, rows: int, snapshot: Snapshot
) -> None:
    """In both ends; of each token one row of 64 is trained where they are tied, else two."""
    folder, tokens = snapshot(family), ("<|user|>", "<|end|>")
    ids = sorted(load_tokenizer(folder).convert_tokens_to_ids(list(tokens)))
    model = load(folder)
    first = [
        end.weight.detach().clone()
        for end in (model.get_input_embeddings(), model.get_output_embeddings())
    ]
    method = LoraConfig(r=2, trainable_tokens=tokens)
    adapted = apply_method(model, method, tokenizer=folder)
    named = [w for n, w in adapted.named_parameters() if "trainable_tokens" in n]
    assert sum(weight.numel() for weight in named) == rows * len(tokens) * 64
    assert isinstance(adapted, PeftModel)
    # The tokens have to be read and written to get a gradient at both ends.
    batch = torch.tensor([[5, *ids, 6, *ids]])
    adapted(input_ids=batch, labels=batch).loss.backward()
    torch.optim.SGD([w for w in adapted.parameters() if w.requires_grad], lr=1.0).step()
    for then, now in zip(first, ends(adapted), strict=True):
        moved = (then != now).any(dim=1).nonzero().flatten().tolist()
        assert moved == ids


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (
            "<start_of_turn>",
            r"'<start_of_turn>' is not one token of the tokenizer, which reads it as",
        )
    ],
)
def test_a_token_that_is_none_is_refused(token: str, expected: str, snapshot: Snapshot) -> None:
    """With the pieces that it is read as, and what to do."""
    folder = snapshot("llama")
    with pytest.raises(ConfigError, match=expected):
        name_token_rows(load(folder), folder, [token])


def test_a_token_without_a_row_is_refused(snapshot: Snapshot, tmp_path: Path) -> None:
    """A tokenizer that was given a token, beside a model that was not."""
    tokenizer = load_tokenizer(snapshot("llama"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"<\|new\|> has the id 4096.* has 4096 rows"):
        name_token_rows(load(snapshot("llama")), tmp_path, ["<|new|>"])


def test_tokens_and_the_whole_embedding_exclude_each_other(snapshot: Snapshot) -> None:
    """The whole holds the rows already."""
    method: dict[str, Any] = {
        "modules_to_save": ("embed_tokens",),
        "trainable_tokens": ("<|end|>",),
    }
    with pytest.raises(ConfigError, match=r"embed_tokens is trained as a whole"):
        apply_method(
            load(snapshot("llama")), LoraConfig(r=2, **method), tokenizer=snapshot("llama")
        )


@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("gemma3_image_text", {}),
        ("nf4_llama", {}),
        ("tied_llama", {"modules_to_save": ("lm_head",)}),
        ("llama", {"trainable_tokens": ("<|end|>",)}),
    ],
)
def test_a_saved_adapter_fits_the_files_of_its_base(
    family: str, method: dict[str, Any], snapshot: Snapshot, tmp_path: Path
) -> None:
    """Other names, packed weights, a head in no file, rows alone: no reason to refuse it."""
    folder = snapshot(family)
    apply_method(load(folder), LoraConfig(r=2, **method), tokenizer=folder).save_pretrained(
        tmp_path
    )
    check_adapter(tmp_path, folder)
