"""Perplexity: what the reference says, whatever the batch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from retune.data.tokenizers import load_tokenizer
from retune.errors import ScoringError
from retune.modeling.loading import load_causal_model
from retune.scoring.perplexity import RowLoss, answer_losses, perplexity, text_perplexity

CPU = torch.device("cpu")
Pairs = list[tuple[list[int], list[int]]]


@pytest.fixture(scope="module")
def reference(shared_data: Path) -> tuple[Any, Any, Pairs, dict[str, Any]]:
    """A trained GPT-2 of two layers, its tokenizer, 23 tokenized rows, and their figures."""
    folder = shared_data / "ppl_reference"
    tokenizer = load_tokenizer(folder / "model")
    model = load_causal_model(folder / "model", dtype=torch.float32, device=CPU)
    rows = json.loads((folder / "pairs.json").read_text("utf-8"))
    pairs = [
        (
            # The reference begins each prompt with the beginning-of-text token.
            [
                tokenizer.bos_token_id,
                *tokenizer(row["prompt"], add_special_tokens=False)["input_ids"],
            ],
            [
                *tokenizer(row["completion"], add_special_tokens=False)["input_ids"],
                tokenizer.eos_token_id,
            ],
        )
        for row in rows
    ]
    return model, tokenizer, pairs, json.loads((folder / "reference.json").read_text("utf-8"))


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_each_row_agrees_with_the_reference(reference: Any, batch_size: int) -> None:
    """NLL and tokens per row are those of reference.json, whatever the batch size."""
    model, tokenizer, pairs, figures = reference
    losses = answer_losses(model, pairs, batch_size=batch_size, pad_id=tokenizer.pad_token_id)
    expected = figures["pairs"]
    assert [one.tokens for one in losses] == [row["tokens"] for row in expected["per_row"]]
    nlls = [row["nll"] for row in expected["per_row"]]
    assert [one.nll_sum_nats for one in losses] == pytest.approx(nlls, rel=1e-4)
    by_token = expected["completion_only_ppl_token_weighted"]
    assert perplexity(losses) == pytest.approx(by_token, rel=1e-4)


def test_the_order_of_rows_changes_nothing(reference: Any) -> None:
    """Rows come back in their own order, with their own losses."""
    model, _, pairs, _ = reference
    forward = answer_losses(model, pairs, batch_size=4, pad_id=0)
    backward = answer_losses(model, pairs[::-1], batch_size=4, pad_id=0)
    assert [one.nll_sum_nats for one in backward[::-1]] == pytest.approx(
        [one.nll_sum_nats for one in forward], rel=1e-5
    )
    assert perplexity(backward) == pytest.approx(perplexity(forward), rel=1e-6)


def test_padding_with_the_end_token_changes_nothing(reference: Any) -> None:
    """The end token of an answer is scored, that of the padding is not."""
    model, tokenizer, pairs, _ = reference
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    first, second = (answer_losses(model, pairs, batch_size=8, pad_id=one) for one in ids)
    assert first == second


@pytest.mark.parametrize("batch_size", [1, 5, 24])
def test_texts_agree_with_the_reference(reference: Any, shared_data: Path, batch_size: int) -> None:
    """Every token but the first of each text, weighted by tokens."""
    model, tokenizer, _, figures = reference
    texts = json.loads((shared_data / "ppl_reference" / "texts.json").read_text("utf-8"))
    found = text_perplexity(model, tokenizer, texts, batch_size=batch_size)
    assert found == pytest.approx(figures["texts"]["corpus_ppl_without_bos"], rel=1e-4)


class ConstantModel:
    """Gives every position the same logits: each next token has the same chances."""

    device = CPU

    def __init__(self, probabilities: list[float]) -> None:
        self.logits = torch.tensor(probabilities).log()
        text = SimpleNamespace(max_position_embeddings=8)
        self.config = SimpleNamespace(get_text_config=lambda: text)

    def __call__(self, *, input_ids: torch.Tensor, logits_to_keep: int, **_: Any) -> Any:
        return SimpleNamespace(logits=self.logits.expand(len(input_ids), logits_to_keep, -1))


def constant(*probabilities: float) -> Any:
    return ConstantModel(list(probabilities))


def test_by_hand_on_chances_that_never_change() -> None:
    """Tokens 0, 1, 2 have 1/2, 1/4, 1/4. The answers are [0, 1] and [2]: NLL ln 2 + ln 4 and ln 4.

    exp((ln 2 + ln 4 + ln 4) / 3) = (2 * 4 * 4)^(1/3) = 32^(1/3). The mean of the rows' own
    perplexities, sqrt(8) and 4, would be another number.
    """
    losses = answer_losses(
        constant(0.5, 0.25, 0.25), [([1, 1], [0, 1]), ([0], [2])], batch_size=2, pad_id=0
    )
    assert [one.nll_sum_nats for one in losses] == pytest.approx([math.log(8), math.log(4)])
    assert perplexity(losses) == pytest.approx(32 ** (1 / 3))


def test_dice_of_n_sides_have_perplexity_n() -> None:
    """A model without any idea is as surprised as by dice."""
    losses = answer_losses(constant(*[0.1] * 10), [([3], [1, 4, 1])], batch_size=1, pad_id=0)
    assert perplexity(losses) == pytest.approx(10.0)


def test_a_broken_model_is_no_score() -> None:
    """NaN in the weights must not become a figure."""
    broken: Any = BrokenSecond()
    with pytest.raises(ScoringError, match="row 1: the model's loss is nan"):
        answer_losses(broken, [([0] * 3, [1]), ([0], [1])], batch_size=1, pad_id=0)


class BrokenSecond(ConstantModel):
    """Right for the longest row, which comes first, and broken from then on."""

    def __init__(self) -> None:
        super().__init__([0.5, 0.5])
        self.calls = 0

    def __call__(self, **inputs: Any) -> Any:
        self.calls += 1
        found = super().__call__(**inputs)
        if self.calls > 1:
            found.logits = found.logits * float("nan")
        return found


def test_a_row_over_the_context_is_refused() -> None:
    """GPT-2 would crash, and others would go on with positions that they never learned."""
    with pytest.raises(ScoringError, match=r"the longest row has 9 tokens.*context of 8"):
        answer_losses(constant(0.5, 0.5), [([0] * 8, [1])], batch_size=1, pad_id=0)


def test_no_tokens_have_no_perplexity() -> None:
    """Neither zero nor one."""
    with pytest.raises(ScoringError, match="no tokens"):
        perplexity([RowLoss(0.0, 0)])


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "gpt2"])
def test_every_family_is_independent_of_the_batch(
    snapshot: Callable[[str], Path], family: str
) -> None:
    """Padding on the left moves no position, sliding windows included (80 tokens, window 64)."""
    model = load_causal_model(snapshot(family), dtype=torch.float32, device=CPU)
    pairs: Pairs = [([7, *range(20, 20 + length)], [5, 9, 11, 1]) for length in (1, 12, 40, 75)]
    alone = answer_losses(model, pairs, batch_size=1, pad_id=0)
    together = answer_losses(model, pairs, batch_size=4, pad_id=3)
    assert [one.nll_sum_nats for one in together] == pytest.approx(
        [one.nll_sum_nats for one in alone], rel=1e-5
    )
