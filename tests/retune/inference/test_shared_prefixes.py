"""Rows that begin alike are read once, with the losses of rows that are read whole."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from retune.inference import shared_prefixes, token_losses
from retune.inference.shared_prefixes import (
    Group,
    batch_alike,
    batch_by_length,
    can_share,
    find_groups,
    make_batches,
    pays,
    read_in_two,
)
from retune.inference.token_losses import score_tokens
from tests.tiny_models import write_snapshot

Pair = tuple[list[int], list[int]]


@pytest.fixture(scope="module", params=["llama", "qwen3", "gpt2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = write_snapshot(tmp_path_factory.mktemp("model") / "m", request.param)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def draw(chance: random.Random, count: int) -> list[int]:
    return [chance.randrange(5, 90) for _ in range(count)]


def make_pairs(seed: int = 0) -> list[Pair]:
    """Three schemas, each with a few questions and answers of any length, and two lone rows."""
    chance = random.Random(seed)
    schemas = [draw(chance, length) for length in (60, 41, 33)]
    pairs = [
        (schema + draw(chance, length), draw(chance, chance.randrange(1, 8)))
        for schema in schemas
        for length in (3, 9, 5, 1)
    ]
    pairs += [(draw(chance, 70), draw(chance, 4)), (draw(chance, 2), draw(chance, 1))]
    chance.shuffle(pairs)
    return pairs


def read_whole(model: PreTrainedModel, pairs: Sequence[Pair]) -> list[list[float]]:
    """Reference: each row by itself, all its tokens in one pass."""
    found = []
    for context, scored in pairs:
        ids = torch.tensor([context + scored])
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
        nlls = -logits.gather(-1, ids[0, 1:, None])[:, 0]
        found.append(nlls[len(context) - 1 :].tolist())
    return found


def passes(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that is told the tokens of each pass from now on."""
    told: list[int] = []
    forward = model.forward

    def count(*args: Any, **kwargs: Any) -> Any:
        told.append(kwargs["input_ids"].numel())
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", count)
    return told


def find_rows(sequences: Sequence[list[int]], batch: Sequence[int]) -> list[Group]:
    """Return the groups of a batch."""
    return find_groups([sequences[place] for place in batch])


@pytest.fixture
def cheap_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few shared tokens be worth a pass."""
    monkeypatch.setattr(shared_prefixes, "_PASS_TOKENS", 0)


@pytest.mark.usefixtures("cheap_passes")
@pytest.mark.parametrize("batch_size", [1, 3, 5, 64])
@pytest.mark.parametrize("from_first", [True, False])
def test_losses_are_those_of_rows_read_by_themselves(
    model: PreTrainedModel, batch_size: int, from_first: bool
) -> None:
    """Of answers, and of all tokens but the first, whichever rows share a batch."""
    pairs = make_pairs()
    if from_first:
        pairs = [((before + after)[:1], (before + after)[1:]) for before, after in pairs]
    found = score_tokens(model, pairs, batch_size=batch_size, pad_id=0)

    for mine, reference in zip(found, read_whole(model, pairs), strict=True):
        assert mine == pytest.approx(reference, abs=2e-5)


def test_what_rows_share_is_read_once(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four prompts of 50 tokens, each with two answers of 3: 4 x 50 and 8 x 2 tokens are read."""
    chance = random.Random(1)
    prompts = [draw(chance, 50) for _ in range(4)]
    pairs = [(prompt, [first, 7, 9]) for prompt in prompts for first in (5, 6)]
    told = passes(model, monkeypatch)
    score_tokens(model, pairs, batch_size=8, pad_id=0)

    assert told == [4 * 50, 8 * 2]


def test_tokens_that_are_not_scored_need_no_vocabulary(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six rows of 60 shared tokens, questions of 10 and answers of 2 and 3, three places behind.

    A lone row is predicted by the first pass, for whose answer of two tokens two places are kept.
    """
    chance = random.Random(5)
    lead = draw(chance, 60)
    pairs = [(lead + draw(chance, 10), draw(chance, 2 + row % 2)) for row in range(6)]
    pairs.append((draw(chance, 58), draw(chance, 2)))
    kept: list[int] = []
    forward = model.forward

    def note(*args: Any, **kwargs: Any) -> Any:
        found = forward(*args, **kwargs)
        kept.append(found.logits.shape[1])
        return found

    monkeypatch.setattr(model, "forward", note)
    sequences = [before + after for before, after in pairs]
    firsts = [len(before) for before, _ in pairs]
    found = read_in_two(model, sequences, firsts, find_groups(sequences), pad_id=0)
    assert kept == [2, 3]
    monkeypatch.undo()
    for mine, reference in zip(found, read_whole(model, pairs), strict=True):
        assert mine == pytest.approx(reference, abs=2e-5)


@pytest.mark.usefixtures("cheap_passes")
def test_a_model_with_an_adapter_shares_too(model: PreTrainedModel) -> None:
    """The adapter's own figures, which are not the base's."""
    torch.manual_seed(0)
    target = "c_attn" if model.config.model_type == "gpt2" else "q_proj"
    adapted: Any = get_peft_model(
        model, LoraConfig(r=4, target_modules=[target], init_lora_weights=False)
    ).eval()
    try:
        pairs = make_pairs(2)
        found = score_tokens(adapted, pairs, batch_size=6, pad_id=0)
        for mine, reference in zip(found, read_whole(adapted, pairs), strict=True):
            assert mine == pytest.approx(reference, abs=2e-5)
    finally:
        adapted.unload()


@pytest.mark.usefixtures("cheap_passes")
def test_a_batch_that_does_not_fit_is_read_in_halves(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory for two rows at a time: groups are found anew in each part."""
    read, tried = token_losses.read_in_two, list[int]()

    def read_few(model: Any, sequences: Any, *others: Any, **options: Any) -> Any:
        tried.append(len(sequences))
        if len(sequences) > 2:
            raise RuntimeError("not enough memory")
        return read(model, sequences, *others, **options)

    monkeypatch.setattr(token_losses, "read_in_two", read_few)
    pairs = make_pairs()
    found = score_tokens(model, pairs, batch_size=8, pad_id=0)
    assert max(tried) > 2 and 2 in tried
    for mine, reference in zip(found, read_whole(model, pairs), strict=True):
        assert mine == pytest.approx(reference, abs=2e-5)


def test_models_that_cannot_keep_every_key_are_read_whole(tmp_path: Path) -> None:
    """Sliding windows; layers on the disk, which each pass would read again."""
    folder = write_snapshot(tmp_path / "gemma", "gemma3")
    assert not can_share(AutoModelForCausalLM.from_pretrained(folder).eval())

    plain = AutoModelForCausalLM.from_pretrained(write_snapshot(tmp_path / "llama", "llama"))
    assert can_share(plain)
    plain.lm_head.weight = torch.nn.Parameter(plain.lm_head.weight.to("meta"))
    assert not can_share(plain)


def test_groups_are_neighbours_that_begin_alike() -> None:
    """By hand: 40 tokens alike, then 36, then 10, which is too few; a lone row has all but one."""
    lead = list(range(100, 140))
    sequences = [[*lead, 1, 2], [*lead, 3], [*lead[:36], 4, 5, 6], [*lead[:10], *range(50)], [8, 9]]
    assert find_groups(sequences) == [Group(0, 3, 36), Group(3, 1, 59), Group(4, 1, 1)]


def test_a_row_that_is_the_beginning_of_another_shares_all_but_its_last_token() -> None:
    lead = list(range(40))
    assert find_groups([lead, [*lead, 1, 2]]) == [Group(0, 2, 39)]


def test_a_third_of_a_long_row_has_to_be_shared() -> None:
    """Of 100 tokens 32 are too few; 33 do, the hundredth being predicted alone."""
    row = list(range(100, 200))
    assert [group.rows for group in find_groups([row, [*row[:32], *range(68)]])] == [1, 1]
    assert [group.rows for group in find_groups([row, [*row[:33], *range(67)]])] == [2]


def test_a_row_shares_from_24_tokens_on() -> None:
    lead = list(range(100, 124))
    assert [group.rows for group in find_groups([[*lead, 1], [*lead, 2]])] == [2]
    assert [group.rows for group in find_groups([[*lead[1:], 1], [*lead[1:], 2]])] == [1, 1]


def test_reading_twice_has_to_pay() -> None:
    """By hand, 33 tokens shared and 3 own ones, of which 2 are read; a pass counts as 128 tokens.

    Two rows: 33 + 4 + 256 = 293, and whole 70 + 128 = 198. Eight: 305 and 408.
    """
    rows = [[*range(33), 40 + row, 50, 51] for row in range(8)]
    assert not pays(find_groups(rows[:2]), rows[:2])
    assert pays(find_groups(rows), rows)


def test_rows_are_batched_by_length_unless_sharing_pays_over_all_of_them() -> None:
    """Two rows that begin alike among twenty that do not change nothing."""
    chance = random.Random(4)
    lead = draw(chance, 40)
    lone = [draw(chance, 40 + place) for place in range(20)]
    assert make_batches([*lone, [*lead, 5], [*lead, 6]], 4) == batch_by_length(
        [*lone, [*lead, 5], [*lead, 6]], 4
    )
    alike = [[*lead, first, second] for first in range(5) for second in range(4)]
    assert make_batches(alike, 10) == batch_alike(alike, 10)


def test_batches_hold_each_row_once_and_keep_groups_together() -> None:
    """Three groups of four in batches of five, then the two rows that are like no other."""
    pairs = make_pairs()
    sequences = [before + after for before, after in pairs]
    batches = batch_alike(sequences, 5)

    assert sorted(itertools.chain(*batches)) == list(range(len(pairs)))
    assert [len(batch) for batch in batches] == [4, 4, 4, 2]
    for batch in batches[:3]:
        assert len({tuple(sequences[place][:33]) for place in batch}) == 1
    assert [len(sequences[place]) for place in batches[3]] == [74, 3]
    left = [
        max(len(sequences[place]) for place in batch) - find_rows(sequences, batch)[0].shared
        for batch in batches[:3]
    ]
    assert left == sorted(left, reverse=True)


def test_a_lone_row_among_groups_has_its_own_losses(model: PreTrainedModel) -> None:
    """It is read with the leads, and nothing of it is left for the second pass."""
    chance = random.Random(3)
    lead, lone = draw(chance, 40), draw(chance, 12)
    sequences = [[*lead, 5, 6, 7], [*lead, 8], lone]
    firsts = [40, 40, 1]
    found = read_in_two(model, sequences, firsts, find_groups(sequences), pad_id=0)
    reference = read_whole(
        model, [(ids[:first], ids[first:]) for ids, first in zip(sequences, firsts, strict=True)]
    )
    for mine, expected in zip(found, reference, strict=True):
        assert mine == pytest.approx(expected, abs=2e-5)
