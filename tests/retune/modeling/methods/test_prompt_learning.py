"""Learned positions before the text: padding and batches change nothing, and peft agrees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from retune.data.chats.tokenizers import load_tokenizer
from retune.errors import ConfigError
from retune.inference.generation import generate_answers
from retune.inference.loaded_models import LoadedModel, put_adapter
from retune.inference.token_losses import context_limit, score_pairs
from retune.modeling.methods.apply import apply_method
from retune.recipe.sections import MethodConfig

KINDS: list[dict[str, Any]] = [
    {"kind": "prefix", "virtual_tokens": 5},
    {"kind": "prefix", "virtual_tokens": 5, "projection": True, "projection_size": 16},
    {"kind": "p_tuning", "virtual_tokens": 5, "encoder_size": 16},
    {"kind": "prompt", "virtual_tokens": 5},
]
# Prefix tuning is refused where attention looks back a window only, as Gemma 3's does.
CASES = [
    (family, method)
    for family in ("llama", "qwen3", "gpt2", "gemma3", "gpt_oss")
    for method in KINDS
    if method["kind"] != "prefix" or family not in ("gemma3", "gpt_oss")
]
# Their windows are 64 tokens or fewer: padding to 120 would push what stands before it out.
LENGTHS = [7, 30, 120, 4, 90, 12, 60, 33]


def adapted(folder: Path, method: dict[str, Any]) -> PreTrainedModel:
    """Put a method on a model, with first values that are felt."""
    torch.manual_seed(3)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    section = TypeAdapter[Any](MethodConfig).validate_python(method)
    model: Any = apply_method(base, section, tokenizer=folder)
    return model.eval()


def rows() -> list[list[int]]:
    """Return eight texts of random ids, of very different lengths."""
    drawn = torch.Generator().manual_seed(5)
    return [torch.randint(3, 500, (length,), generator=drawn).tolist() for length in LENGTHS]


@pytest.mark.parametrize(("family", "method"), CASES)
def test_batches_and_padding_change_no_loss(
    family: str, method: dict[str, Any], snapshot: Callable[[str], Path]
) -> None:
    """A row alone has the loss that it has beside seven others, padded on either side."""
    model = adapted(snapshot(family), method)
    pairs = [(row[:-3], row[-3:]) for row in rows()]
    alone = score_pairs(model, pairs, batch_size=1, pad_id=0)
    for side in ("left", "right"):
        batch = score_pairs(model, pairs, batch_size=8, pad_id=0, padding_side=side)
        for one, other in zip(alone, batch, strict=True):
            assert one.nll_sum_nats == pytest.approx(other.nll_sum_nats, abs=1e-4)


@pytest.mark.parametrize(("family", "method"), CASES)
def test_batches_change_no_answer(
    family: str, method: dict[str, Any], snapshot: Callable[[str], Path], tmp_path: Path
) -> None:
    """A prompt alone gets the answer that it gets in a batch, and that peft's own model gives."""
    folder = snapshot(family)
    model, tokenizer = adapted(folder, method), load_tokenizer(folder)
    loaded = LoadedModel(model, tokenizer, [])
    answers = [
        generate_answers(loaded, rows(), max_new_tokens=20, batch_size=size) for size in (1, 8)
    ]
    assert answers[0] == answers[1]
    model.save_pretrained(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    peft_own = LoadedModel(PeftModel.from_pretrained(base, tmp_path).eval(), tokenizer, [])
    assert answers[0] == generate_answers(peft_own, rows(), max_new_tokens=20, batch_size=1)


@pytest.mark.parametrize(("family", "method"), CASES)
def test_learned_positions_stand_right_before_the_text(
    family: str, method: dict[str, Any], snapshot: Callable[[str], Path]
) -> None:
    """The logits are those of the bare base that is given the learned values by hand."""
    model: Any = adapted(snapshot(family), method)
    ids = torch.tensor([rows()[1]])
    base, learned = model.get_base_model(), model.get_prompt(batch_size=1)
    if method["kind"] == "prefix":
        given = {"input_ids": ids, "past_key_values": learned}
    else:
        words = base.get_input_embeddings()(ids)
        given = {"inputs_embeds": torch.cat((learned, words), dim=1)}
    with torch.inference_mode():
        ours, theirs = model(input_ids=ids).logits, base(**given).logits
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_words_are_where_prompt_tuning_starts(snapshot: Callable[[str], Path]) -> None:
    """The text's embeddings come in order, from the front again when there are too few."""
    folder = snapshot("llama")
    method = {"kind": "prompt", "virtual_tokens": 5, "init_text": "one two"}
    model: Any = adapted(folder, method)
    ids = load_tokenizer(folder)("one two", add_special_tokens=False)["input_ids"]
    wanted = [ids[place % len(ids)] for place in range(5)]
    words = model.get_base_model().get_input_embeddings()(torch.tensor(wanted))
    assert torch.equal(model.get_prompt(batch_size=1)[0], words)


def test_learned_positions_take_room_from_the_context(snapshot: Callable[[str], Path]) -> None:
    """GPT-2 here reads 1,024 tokens; with five learned ones before them 1,019 are left."""
    method = {"kind": "prompt", "virtual_tokens": 5}
    assert context_limit(adapted(snapshot("gpt2"), method)) == 1024 - 5


def test_a_finished_adapter_is_put_on_with_all_of_its_weights_or_not_at_all(
    snapshot: Callable[[str], Path], tmp_path: Path
) -> None:
    """A renamed weight is refused, and so is the adapter of another base."""
    model = adapted(snapshot("llama"), {"kind": "prompt", "virtual_tokens": 5})
    model.save_pretrained(tmp_path)
    (tmp_path / "prompt_encoder.safetensors").unlink()
    base = AutoModelForCausalLM.from_pretrained(snapshot("llama"), dtype=torch.float32)
    put = put_adapter(base, tmp_path)
    ids = torch.tensor([rows()[0]])
    with torch.inference_mode():
        assert torch.equal(put(input_ids=ids).logits, model(input_ids=ids).logits)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    save_file({**weights, "more": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained(snapshot("llama"), dtype=torch.float32)
    with pytest.raises(ConfigError, match=r"unexpected: more"):
        put_adapter(base, tmp_path)
    save_file({"other": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained(snapshot("llama"), dtype=torch.float32)
    with pytest.raises(ConfigError, match=r"cannot be put on the model"):
        put_adapter(base, tmp_path)
