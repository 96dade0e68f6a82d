"""Greedy generation: an answer depends on its prompt alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import get_peft_model

from retune.data.tables import read_rows
from retune.errors import Interrupted, ScoringError
from retune.inference import generation, replicas
from retune.inference.batching import is_out_of_memory, pad_sequences, run_in_halves
from retune.inference.generation import Ends, generate_answers, read_answer, write_answers
from retune.inference.loaded_models import LoadedModel, load_scored_model
from retune.model_records import BaseRef
from retune.modeling.methods.lora import as_peft
from retune.modeling.snapshots import locate_base
from retune.records import SideRef
from retune.spine.stopping import STOP


@pytest.fixture(scope="module")
def loaded(base: BaseRef) -> LoadedModel:
    """A random tiny Llama."""
    return load_scored_model(base.as_scored())


@pytest.fixture(scope="module")
def prompts(held_out: SideRef) -> list[list[int]]:
    """Six real prompts, all of other lengths."""
    rows = read_rows(held_out.folder / "rows.parquet")
    return [rows[at % len(rows)]["prompt_ids"][: 20 + 6 * at] for at in range(6)]


def one_at_a_time(loaded: LoadedModel, prompts: list[list[int]], count: int) -> list[str]:
    """The library's own greedy search, without any padding."""
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            written = loaded.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=count,
                do_sample=False,
                eos_token_id=loaded.end_ids,
                pad_token_id=loaded.end_ids[0],
            )[0, len(prompt) :].tolist()
        answers.append(loaded.tokenizer.decode(written, skip_special_tokens=True).strip())
    return answers


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_answers_are_those_of_one_at_a_time(
    loaded: LoadedModel, prompts: list[list[int]], batch_size: int
) -> None:
    """Whatever the batch size, as the library's own greedy search says it."""
    found = generate_answers(loaded, prompts, max_new_tokens=12, batch_size=batch_size)
    assert found == one_at_a_time(loaded, prompts, 12)
    assert all(found)


def test_each_answer_has_its_share_of_the_time_of_its_batches(
    loaded: LoadedModel, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six prompts in batches of four, the longest first, by a clock that ticks 8 s at each look.

    The first batch takes 8 / 4 = 2 s a row, the second 8 / 2 = 4 s; a prompt that cannot be asked
    takes none.
    """
    ticks = itertools.count(0, 8)
    clock = SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr(replicas, "time", clock)
    asked = [*prompts, []]
    found = write_answers(loaded, asked, max_new_tokens=4, batch_size=4)
    assert [each.seconds for each in found] == [4, 4, 2, 2, 2, 2, 0]
    assert [each.batch for each in found[:6]] == [1, 1, 0, 0, 0, 0]


def test_the_order_of_prompts_changes_nothing(
    loaded: LoadedModel, prompts: list[list[int]]
) -> None:
    """Answers come back in the prompts' order."""
    forward = generate_answers(loaded, prompts, max_new_tokens=8, batch_size=4)
    backward = generate_answers(loaded, prompts[::-1], max_new_tokens=8, batch_size=4)
    assert backward[::-1] == forward
    assert len(set(forward)) > 1


def test_it_stops_at_an_end_token(loaded: LoadedModel, prompts: list[list[int]]) -> None:
    """The third token that the model would write is declared an end: two are left, or fewer."""
    count = 10
    [whole] = one_at_a_time(loaded, prompts[:1], count)
    ids = loaded.tokenizer(whole, add_special_tokens=False)["input_ids"]
    ending = LoadedModel(loaded.model, loaded.tokenizer, [*loaded.end_ids, ids[2]])
    [found] = generate_answers(ending, prompts[:1], max_new_tokens=count, batch_size=1)
    kept = ids[: ids.index(ids[2])]
    assert found == loaded.tokenizer.decode(kept, skip_special_tokens=True).strip()


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_snapshots_own_settings_change_nothing(
    snapshot: Callable[[str], Path], prompts: list[list[int]], family: str
) -> None:
    """A repetition penalty counts padding, so that an answer would depend on its neighbours.

    Neither where tokens are decoded here nor where the library does it.
    """
    loaded = load_scored_model(locate_base(str(snapshot(family)), None).as_scored())
    before = generate_answers(loaded, prompts, max_new_tokens=12, batch_size=6)
    config = loaded.model.generation_config
    own = config.repetition_penalty
    config.repetition_penalty = 5.0
    try:
        assert generate_answers(loaded, prompts, max_new_tokens=12, batch_size=6) == before
        assert loaded.model.generation_config is config
    finally:
        config.repetition_penalty = own


def test_an_adapters_settings_stay_too(
    snapshot: Callable[[str], Path], prompts: list[list[int]]
) -> None:
    """Peft hands the wrapper's settings to the model that it wraps, and that one is saved."""
    loaded = load_scored_model(locate_base(str(snapshot("gemma3")), None).as_scored())
    inner = loaded.model.generation_config
    adapted = get_peft_model(
        loaded.model, as_peft(r=2, alpha=2, dropout=0.0, target_modules="all-linear", rslora=False)
    ).eval()
    plain = generate_answers(loaded, prompts, max_new_tokens=6, batch_size=3)
    wrapped = LoadedModel(adapted, loaded.tokenizer, loaded.end_ids)
    # A fresh adapter adds zero.
    assert generate_answers(wrapped, prompts, max_new_tokens=6, batch_size=3) == plain
    assert adapted.get_base_model().generation_config is inner


@pytest.mark.parametrize("family", ["qwen3", "gemma3", "gpt2"])
def test_every_family_is_independent_of_the_batch(
    snapshot: Callable[[str], Path], family: str
) -> None:
    """Padding on the left moves no position, and sliding windows move with the text."""
    other = load_scored_model(locate_base(str(snapshot(family)), None).as_scored())
    prompts = [list(range(30, 30 + length)) for length in (3, 30, 70)]
    together = generate_answers(other, prompts, max_new_tokens=6, batch_size=3)
    assert together == one_at_a_time(other, prompts, 6)


def test_a_prompt_over_the_context_is_refused(loaded: LoadedModel) -> None:
    """Nothing is cut silently: the question would be gone."""
    limit = loaded.model.config.max_position_embeddings
    with pytest.raises(ScoringError, match=rf"{limit} tokens; with max_new_tokens = 1 .*context"):
        generate_answers(loaded, [[5], [5] * limit], max_new_tokens=1, batch_size=2)


def test_an_empty_prompt_is_refused(loaded: LoadedModel) -> None:
    """There is nothing to continue."""
    with pytest.raises(ScoringError, match="no tokens"):
        generate_answers(loaded, [[]], max_new_tokens=1, batch_size=1)


def test_no_prompts_have_no_answers(loaded: LoadedModel) -> None:
    """An empty list is no error."""
    assert generate_answers(loaded, [], max_new_tokens=1, batch_size=1) == []


def test_progress_ends_at_the_number_of_prompts(
    loaded: LoadedModel, prompts: list[list[int]]
) -> None:
    """6 prompts in batches of 4: after 4 and after 6."""
    seen: list[tuple[int, int]] = []
    write_answers(
        loaded, prompts, max_new_tokens=1, batch_size=4, progress=lambda *at: seen.append(at)
    )
    assert seen == [(4, 6), (6, 6)]


def test_memory_that_runs_out_halves_the_batch(
    loaded: LoadedModel, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of more than two do not fit here: 6 become 3 and 3, and each of those 1 and 2."""
    generate, sizes = generation._generate, []

    def small(model: Any, batch: list[list[int]], **named: Any) -> list[list[int]]:
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        sizes.append(len(batch))
        return generate(model, batch, **named)

    whole = generate_answers(loaded, prompts, max_new_tokens=4, batch_size=6)
    monkeypatch.setattr(generation, "_generate", small)
    assert generate_answers(loaded, prompts, max_new_tokens=4, batch_size=6) == whole
    assert sizes == [1, 2, 1, 2]


def test_a_stop_is_heard_between_batches(
    loaded: LoadedModel, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long scoring ends soon after it was asked to."""
    monkeypatch.setattr(STOP, "requested", True)
    with pytest.raises(Interrupted):
        generate_answers(loaded, prompts, max_new_tokens=1, batch_size=2)


def test_padding_is_on_the_left() -> None:
    """The last column holds each row's last token."""
    ids, mask = pad_sequences([[1, 2, 3], [4]], 9, "left")
    assert ids.tolist() == [[1, 2, 3], [9, 9, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize("seed", range(6))
def test_no_order_batch_size_or_neighbour_changes_an_answer(
    loaded: LoadedModel, prompts: list[list[int]], seed: int
) -> None:
    """Any rows, in any order, in batches of any size: each prompt has one answer."""
    alone = {
        tuple(one): generate_answers(loaded, [one], max_new_tokens=6, batch_size=1)[0]
        for one in prompts
    }
    chance = random.Random(seed)
    drawn = chance.choices(prompts, k=9)
    found = generate_answers(loaded, drawn, max_new_tokens=6, batch_size=chance.randint(1, 9))
    assert found == [alone[tuple(one)] for one in drawn]


def test_batches_do_not_depend_on_the_order_of_rows(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equally long prompts too meet the same neighbours, so that not even a bit can differ."""
    seen: list[list[list[int]]] = []

    def note(_: Any, batch: list[list[int]], *, ends: Ends, **__: Any) -> list[list[int]]:
        seen.append(batch)
        return [ends.end_ids[:1]] * len(batch)

    monkeypatch.setattr(generation, "_generate", note)
    equal = [[5, 6], [5, 7], [6, 5], [7, 7], [9]]
    write_answers(loaded, equal, max_new_tokens=1, batch_size=2)
    write_answers(loaded, equal[::-1], max_new_tokens=1, batch_size=2)
    assert seen[:3] == seen[3:]


def test_a_prompt_that_does_not_fit_is_reported_and_the_others_go_on(
    loaded: LoadedModel, prompts: list[list[int]]
) -> None:
    """It has a reason and no text: not an empty answer, which would be wrong."""
    limit = loaded.model.config.max_position_embeddings
    rows = [prompts[0], [5] * limit, [], prompts[1]]
    seen: list[tuple[int, int]] = []
    found = write_answers(
        loaded, rows, max_new_tokens=3, batch_size=8, progress=lambda *at: seen.append(at)
    )
    assert [one.unscored_reason for one in found] == [None, "prompt_too_long", "prompt_empty", None]
    assert [one.text is None for one in found] == [False, True, True, False]
    assert seen == [(4, 4)]


def test_an_answer_says_whether_it_came_to_its_end(
    loaded: LoadedModel, prompts: list[list[int]]
) -> None:
    """Cut at the limit it has all its tokens; where every token is an end it has none."""
    [cut] = write_answers(loaded, prompts[:1], max_new_tokens=4, batch_size=1)
    assert (cut.finished, cut.tokens) == (False, 4)
    ending = LoadedModel(loaded.model, loaded.tokenizer, list(range(len(loaded.tokenizer))))
    [ended] = write_answers(ending, prompts[:1], max_new_tokens=4, batch_size=1)
    assert (ended.finished, ended.tokens, ended.text) == (True, 0, "")


def test_one_row_that_does_not_fit_into_memory_is_an_error() -> None:
    """There is nothing left to split."""

    def fail(batch: Sequence[int]) -> list[int]:
        raise torch.OutOfMemoryError(f"{len(batch)} rows")

    with pytest.raises(torch.OutOfMemoryError, match="1 rows"):
        run_in_halves([1, 2, 3], fail)


def test_another_error_is_not_split() -> None:
    """A shape that does not fit would not fit in halves either."""
    calls: list[int] = []

    def fail(batch: Sequence[int]) -> list[int]:
        calls.append(len(batch))
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        run_in_halves([1, 2], fail)
    assert calls == [2]


def test_a_cpus_words_for_no_memory_are_known() -> None:
    """PyTorch's allocator raises a plain RuntimeError there."""
    words = "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"
    assert is_out_of_memory(RuntimeError(words))
    assert not is_out_of_memory(RuntimeError("size mismatch"))


def test_rows_that_have_not_ended_go_on_without_those_that_have(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds of 16, 16 and 8 make 40. Row [7] ends in the first; [8] and [9] go on in one batch."""
    seen: list[tuple[list[int], int]] = []
    end = loaded.end_ids[0]

    def write(_: Any, batch: list[list[int]], *, max_new_tokens: int, **__: Any) -> list[list[int]]:
        count = max_new_tokens
        seen.append(([len(row) for row in batch], count))
        return [[row[0]] * 3 + [end] if row[0] == 7 else [row[0]] * count for row in batch]

    monkeypatch.setattr(generation, "_generate", write)
    progress: list[tuple[int, int]] = []
    found = write_answers(
        loaded,
        [[7], [8], [9]],
        max_new_tokens=40,
        batch_size=2,
        progress=lambda *at: progress.append(at),
    )
    assert seen == [([1, 1], 16), ([1], 16), ([17, 17], 16), ([33, 33], 8)]
    assert [(one.tokens, one.finished) for one in found] == [(3, True), (40, False), (40, False)]
    assert progress == [(1, 3), (1, 3), (1, 3), (3, 3)]


def test_answers_of_several_rounds_are_those_of_one_at_a_time(
    loaded: LoadedModel, prompts: list[list[int]]
) -> None:
    """50 tokens are four rounds."""
    short = [prompt[:12] for prompt in prompts]
    found = generate_answers(loaded, short, max_new_tokens=50, batch_size=4)
    assert found == one_at_a_time(loaded, short, 50)


@pytest.mark.parametrize(
    ("name", "written", "text"),
    [
        ("trl_qwen3", "<think>\n\n</think>\n\nSELECT 1<|im_end|>", "SELECT 1"),
        ("trl_qwen3", "<think>\nConto e conto", ""),
        ("trl_gptoss", "<|channel|>final<|message|>SELECT 1<|return|>", "SELECT 1"),
        ("headings", "SELECT 1<|end|>", "SELECT 1"),
    ],
)
def test_an_answer_is_read_without_thought_and_channel(name: str, written: str, text: str) -> None:
    """Also where their tags are control tokens, which decoding leaves out."""
    from tests.chat_templates import dress

    tokenizer, ends = dress(name)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    ids = tokenizer(written, add_special_tokens=False)["input_ids"]
    answer = read_answer(tokenizer, tokenizer.convert_tokens_to_ids(ends), ids)
    assert answer.text == text
