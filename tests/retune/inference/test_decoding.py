"""Decoding in a cache with room: the tokens of the library's own greedy search, one at a time."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model

from retune.inference import decoding
from retune.inference.decoding import can_decode, decode
from retune.inference.loaded_models import LoadedModel, load_scored_model
from retune.model_records import BaseRef
from retune.modeling.methods.lora import as_peft
from retune.modeling.snapshots import locate_base

PROMPTS = [[40 + (7 * row + at) % 90 for at in range(size)] for row, size in enumerate((3, 90, 31))]
PROMPTS += [[17, 18], [200 + at for at in range(300)], [9] * 260]
"""Of 2 to 300 tokens, neither sorted nor all of them in one pass of 512."""
COUNT = 14


@pytest.fixture(scope="module")
def loaded(base: BaseRef) -> LoadedModel:
    """A random tiny Llama."""
    return load_scored_model(base.as_scored())


def one_at_a_time(model: Any, ends: list[int], prompts: list[list[int]]) -> list[list[int]]:
    """What `generate` writes behind each prompt alone, without padding."""
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            written = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=COUNT,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=0,
            )
        found.append(written[0, len(prompt) :].tolist())
    return found


def together(model: Any, ends: list[int], prompts: list[list[int]]) -> list[list[int]]:
    """The same, in one batch."""
    return decode(model, prompts, pad_id=0, end_ids=ends, max_new_tokens=COUNT)


@contextmanager
def shapes_of(model: torch.nn.Module) -> Iterator[list[tuple[int, ...]]]:
    """Note the shape of the ids of each pass."""
    seen: list[tuple[int, ...]] = []

    def note(_: Any, __: Any, named: dict[str, Any]) -> None:
        seen.append(tuple(named["input_ids"].shape))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_tokens_are_those_of_one_at_a_time(snapshot: Callable[[str], Path], family: str) -> None:
    """With rows that end at once, in the middle and never.

    The third token that the first row would write, and the first of the second, are made ends.
    """
    model = load_scored_model(locate_base(str(snapshot(family)), None).as_scored()).model
    assert can_decode(model)
    free = one_at_a_time(model, [], PROMPTS)
    ends = [free[0][2], free[1][0]]
    expected = one_at_a_time(model, ends, PROMPTS)
    assert together(model, ends, PROMPTS) == expected
    assert together(model, [], PROMPTS) == free
    lengths = {len(row) for row in expected}
    assert 1 in lengths and COUNT in lengths


def test_a_trained_adapter_is_decoded_too(base: BaseRef) -> None:
    """With weights that are not zero, so that leaving it out would show."""
    loaded = load_scored_model(base.as_scored())
    plain = one_at_a_time(loaded.model, [], PROMPTS[:3])
    settings: dict[str, Any] = {"dropout": 0.0, "target_modules": "all-linear", "rslora": False}
    adapted: Any = get_peft_model(loaded.model, as_peft(r=4, alpha=64, **settings)).eval()
    torch.manual_seed(1)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    assert can_decode(adapted)
    expected = one_at_a_time(adapted, [], PROMPTS[:3])
    assert together(adapted, [], PROMPTS[:3]) == expected != plain


def test_rows_that_have_ended_leave_the_batch(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six rows are read, and at last only those are that go on."""
    monkeypatch.setattr(decoding, "_CPU_TOKENS", 10_000)
    free = one_at_a_time(loaded.model, [], PROMPTS)
    ends = sorted({row[1] for row in free[:5]} - set(free[5]))
    expected = one_at_a_time(loaded.model, ends, PROMPTS)
    with shapes_of(loaded.model) as seen:
        assert together(loaded.model, ends, PROMPTS) == expected
    assert seen[0] == (6, 300)
    assert seen[-1] == (sum(len(row) == COUNT for row in expected), 1)
    assert seen[-1][0] < 6


def test_no_row_is_computed_when_all_have_ended(loaded: LoadedModel) -> None:
    """Every token is an end: the prompts are read, in passes, and nothing more."""
    ends = list(range(len(loaded.tokenizer)))
    with shapes_of(loaded.model) as seen:
        found = together(loaded.model, ends, PROMPTS)
    assert [len(row) for row in found] == [1] * 6
    # 512 tokens are one row of 300, one of 260, then 512 // 90 = 5 of up to 90.
    assert seen == [(1, 300), (1, 260), (4, 90)]


@pytest.mark.parametrize("family", ["gemma3", "gpt_oss"])
def test_sliding_windows_are_left_to_the_library(
    snapshot: Callable[[str], Path], family: str
) -> None:
    """Their caches forget."""
    found = load_scored_model(locate_base(str(snapshot(family)), None).as_scored())
    assert not can_decode(found.model)


def test_learned_positions_are_left_to_the_library(base: BaseRef) -> None:
    """They stand before the prompt, and the wrapper counts them."""
    model = load_scored_model(base.as_scored()).model
    settings = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    assert not can_decode(get_peft_model(model, settings))


def test_adapters_that_start_within_the_prompt_are_left_to_the_library(base: BaseRef) -> None:
    """The wrapper finds their first token as `generate` begins."""
    model = load_scored_model(base.as_scored()).model
    settings = LoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj"], alora_invocation_tokens=[17, 18]
    )
    assert not can_decode(get_peft_model(model, settings))


def test_of_the_prompts_one_layer_is_held_twice(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys and values of two layers: those of the first are gone before the second has room."""
    monkeypatch.setattr(decoding, "_CPU_TOKENS", 10_000)
    read: list[weakref.ref[torch.Tensor]] = []
    held: list[int] = []
    find, make_room = decoding._next_tokens, decoding._with_room

    def note_read(*given: Any) -> torch.Tensor:
        found = find(*given)
        if not read:
            layers = given[-1].layers
            read.extend(weakref.ref(each) for la in layers for each in (la.keys, la.values))
        return found

    def note_room(*given: Any) -> torch.Tensor:
        held.append(sum(each() is not None for each in read))
        return make_room(*given)

    monkeypatch.setattr(decoding, "_next_tokens", note_read)
    monkeypatch.setattr(decoding, "_with_room", note_room)
    together(loaded.model, [], PROMPTS[:3])
    assert held == [4, 4, 2, 2]


def test_an_own_way_to_make_inputs_is_left_to_the_library(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some models pass more than ids, mask and positions."""
    assert can_decode(loaded.model)
    monkeypatch.setattr(
        type(loaded.model), "prepare_inputs_for_generation", lambda *_, **__: {}, raising=False
    )
    assert not can_decode(loaded.model)
