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

from retune.data.chats.tokenizers import load_tokenizer
from retune.errors import ScoringError
from retune.inference.loaded_models import load_causal_model
from retune.inference.text_losses import PairLosses, answer_losses, pair_losses, text_losses
from retune.inference.token_losses import RowLoss, add_losses, score_pairs
from retune.inference.windows import rolling_windows, strided_windows
from retune.scoring.perplexity import (
    estimate_bits_per_byte,
    estimate_perplexity,
    perplexity,
    text_perplexity,
)
from tests.retune.scoring.reference_losses import figures_of, make_model, read_texts
from tests.tiny_models import REPOSITORY

CPU = torch.device("cpu")
BASE = REPOSITORY / "assets" / "base_tiny"
Pairs = list[tuple[list[int], list[int]]]


@pytest.fixture(scope="module")
def reference(
    reference_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Any, Pairs, dict[str, Any]]:
    """A GPT-2 of two layers, its tokenizer, tokenized rows, and the figures of all that is written.

    The larger set has a trained one and recorded figures; the sample's are those of
    `reference_losses`.
    """
    folder = reference_data / "ppl_reference"
    if not folder.is_dir():
        written = read_texts()
        place = make_model(load_tokenizer(BASE), tmp_path_factory.mktemp("model"))
    else:
        place = folder / "model"
        written = {
            name: json.loads((folder / f"{name}.json").read_text("utf-8"))
            for name in ("texts", "pairs")
        }
        written["long"] = (folder / "long.txt").read_text("utf-8")
    tokenizer = load_tokenizer(place)
    model = load_causal_model(place, dtype=torch.float32, device=CPU)
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
        for row in written["pairs"]
    ]
    if folder.is_dir():
        figures = json.loads((folder / "reference.json").read_text("utf-8"))
    else:
        figures = figures_of(model, tokenizer, pairs, written)
    return model, tokenizer, pairs, {**figures, "written": written}


def bits_per_byte(losses: list[RowLoss]) -> float | None:
    """Return the figure that the stages report."""
    return estimate_bits_per_byte(losses, resamples=50).value


EVERY_SIZE = (1, 2, 8)
EVERY_BATCH = [(size, side) for size in EVERY_SIZE for side in ("left", "right")]


@pytest.mark.parametrize("pad", ["pad_token_id", "eos_token_id"])
@pytest.mark.parametrize("batch_size", EVERY_SIZE)
def test_each_row_agrees_with_the_reference(reference: Any, batch_size: int, pad: str) -> None:
    """NLL and tokens per row are those of reference.json, however rows are batched and padded."""
    model, tokenizer, pairs, figures = reference
    losses = answer_losses(model, pairs, batch_size=batch_size, pad_id=getattr(tokenizer, pad))
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
def test_texts_agree_with_the_reference(reference: Any, batch_size: int) -> None:
    """Every token but the first of each text, weighted by tokens."""
    model, tokenizer, _, figures = reference
    texts = figures["written"]["texts"]
    found = text_perplexity(model, tokenizer, texts, batch_size=batch_size)
    assert found == pytest.approx(figures["texts"]["corpus_ppl_without_bos"], rel=1e-4)


@pytest.mark.parametrize("batch_size", EVERY_SIZE)
def test_the_other_figures_of_rows_agree_with_the_reference(
    reference: Any, batch_size: int
) -> None:
    """Answers and full sequences of one pass, without the end token, and bits per byte."""
    model, tokenizer, pairs, figures = reference
    expected = figures["pairs"]
    rows = figures["written"]["pairs"]
    end = tokenizer.eos_token_id
    found = pair_losses(
        model,
        pairs,
        batch_size=batch_size,
        pad_id=end,
        answer_bytes=[len(row["completion"].encode("utf-8")) for row in rows],
        end_ids=[end],
    )
    answers, wholes = [one.answer for one in found], [one.whole for one in found]
    assert perplexity(answers) == pytest.approx(
        expected["completion_only_ppl_token_weighted"], rel=1e-4
    )
    assert perplexity(wholes) == pytest.approx(expected["full_sequence_ppl"], rel=1e-4)
    assert estimate_perplexity(wholes, resamples=50).value == pytest.approx(
        perplexity(wholes), rel=1e-9
    )
    endless = [RowLoss(one.text_nll_nats, one.tokens - 1) for one in answers]
    assert perplexity(endless) == pytest.approx(
        expected["completion_only_ppl_without_eos"], rel=1e-4
    )
    assert bits_per_byte(answers) == pytest.approx(expected["completion_bits_per_byte"], rel=1e-4)


@pytest.mark.parametrize("batch_size", EVERY_SIZE)
def test_texts_after_a_beginning_token_agree_with_the_reference(
    reference: Any, batch_size: int
) -> None:
    """Per text as Hugging Face `evaluate` has it, and over all texts by token and by byte."""
    model, tokenizer, _, figures = reference
    texts = figures["written"]["texts"]
    found = text_losses(
        model, tokenizer, texts, batch_size=batch_size, prefix_id=tokenizer.bos_token_id
    )
    losses = [one for one in found if one is not None]
    expected = figures["texts"]
    assert [sum(one.tokens for one in losses), sum(one.bytes or 0 for one in losses)] == [
        expected["tokens"],
        expected["bytes"],
    ]
    assert perplexity(losses) == pytest.approx(expected["corpus_ppl_with_bos"], rel=1e-4)
    assert bits_per_byte(losses) == pytest.approx(expected["bits_per_byte"], rel=1e-4)
    by_text = [perplexity([one]) for one in losses]
    assert by_text == pytest.approx(expected["per_text_ppl_with_bos"], rel=1e-4)
    evaluate = figures["hf_evaluate"]["batch4_start_True"]
    assert math.fsum(by_text) / len(by_text) == pytest.approx(evaluate["mean"], rel=1e-4)


def test_texts_alone_agree_with_hugging_face_evaluate(reference: Any) -> None:
    """Without a beginning token the first token of each text is not scored."""
    model, tokenizer, _, figures = reference
    texts = figures["written"]["texts"]
    found = text_losses(model, tokenizer, texts, batch_size=8)
    by_text = [perplexity([one]) for one in found if one is not None]
    evaluate = figures["hf_evaluate"]["batch1_start_False"]
    assert by_text[:5] == pytest.approx(evaluate["first5"], rel=1e-4)
    assert math.fsum(by_text) / len(by_text) == pytest.approx(evaluate["mean"], rel=1e-4)


@pytest.fixture(scope="module")
def long_text(reference: Any) -> str:
    """Some 1,000 to 2,000 tokens, for a model that reads 256."""
    text: str = reference[3]["written"]["long"]
    return text


@pytest.mark.parametrize(("batch_size", "side"), EVERY_BATCH)
@pytest.mark.parametrize("stride", [32, 64, 128, 256])
def test_windows_agree_with_the_documentations_loop(
    reference: Any, long_text: str, stride: int, batch_size: int, side: Any
) -> None:
    """That loop weights each window's mean by its scored tokens less one, ours by its tokens.

    With its weights our windows give its figure to 1e-4. Ours differs from it by the weights alone:
    every token counts once, the first token of the text excepted; without overlap the first of
    each window.
    """
    model, tokenizer, _, figures = reference
    ids = tokenizer(long_text, add_special_tokens=False)["input_ids"]
    windows = strided_windows(ids, max_length=256, stride=stride)
    losses = score_pairs(
        model, windows, batch_size=batch_size, pad_id=tokenizer.eos_token_id, padding_side=side
    )
    # Without overlap the loop's mean is over 255 tokens of 256, and so is ours.
    weights = [one.tokens - (at > 0 and stride < 256) for at, one in enumerate(losses)]
    means = [one.nll_sum_nats / one.tokens for one in losses]
    total = math.fsum(mean * weight for mean, weight in zip(means, weights, strict=True))
    expected = figures["long"]
    assert sum(weights) == expected[f"transformers_docs_stride{stride}_tokens_scored"]
    assert math.exp(total / sum(weights)) == pytest.approx(
        expected[f"transformers_docs_stride{stride}"], rel=1e-4
    )
    assert len(windows) > 3
    unread = len(windows) if stride == 256 else 1
    assert sum(one.tokens for one in losses) == expected["tokens"] - unread
    if stride == 128:  # half of the context: what texts are scored with
        [ours] = text_losses(model, tokenizer, [long_text], batch_size=batch_size)
        assert ours is not None
        assert ours.nll_sum_nats == pytest.approx(
            math.fsum(one.nll_sum_nats for one in losses), rel=1e-5
        )


@pytest.mark.parametrize(("batch_size", "side"), EVERY_BATCH)
def test_windows_after_a_prefix_agree_with_lm_eval(
    reference: Any, long_text: str, batch_size: int, side: Any
) -> None:
    """NLL sum, by token, by byte, with another prefix, and with a context of 128 tokens."""
    model, tokenizer, _, figures = reference

    ids = tokenizer(long_text, add_special_tokens=False)["input_ids"]

    def score(prefix_id: int, context_length: int) -> RowLoss:
        windows = rolling_windows(
            ids, max_length=256, prefix_id=prefix_id, context_length=context_length
        )
        losses = score_pairs(model, windows, batch_size=batch_size, pad_id=0, padding_side=side)
        return add_losses(losses, n_bytes=len(long_text.encode("utf-8")))

    expected, begin = figures["long"], tokenizer.bos_token_id
    whole = score(begin, 1)
    assert (whole.tokens, whole.bytes) == (expected["tokens"], expected["bytes"])
    assert whole.nll_sum_nats == pytest.approx(expected["lm_eval_rolling_nll"], rel=1e-4)
    assert perplexity([whole]) == pytest.approx(expected["lm_eval_token_ppl"], rel=1e-4)
    assert bits_per_byte([whole]) == pytest.approx(expected["lm_eval_bits_per_byte"], rel=1e-4)
    after_end = score(tokenizer.eos_token_id, 1)
    assert perplexity([after_end]) == pytest.approx(
        expected["lm_eval_token_ppl_prefix_eos"], rel=1e-4
    )
    overlapping = score(begin, 128)
    assert perplexity([overlapping]) == pytest.approx(
        expected["lm_eval_token_ppl_context_len128"], rel=1e-4
    )
    # Windows move on by half of the context: 256 - 128 + 1 tokens are read before.
    [ours] = text_losses(model, tokenizer, [long_text], batch_size=batch_size, prefix_id=begin)
    assert ours is not None
    assert ours.nll_sum_nats == pytest.approx(score(begin, 129).nll_sum_nats, rel=1e-5)
    assert (ours.tokens, ours.bytes) == (whole.tokens, whole.bytes)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 30])
@pytest.mark.parametrize("stride", [1, 3, 8])
def test_windows_score_each_token_once(length: int, stride: int) -> None:
    """In order, with what stands before as context, and never more than fits."""
    ids = list(range(100, 100 + length))
    strided = strided_windows(ids, max_length=8, stride=stride)
    scored = [token for _, tokens in strided for token in tokens]
    # Without overlap the first token of each window has no context.
    expected = [token for at, token in enumerate(ids) if at % 8] if stride == 8 else ids[1:]
    assert scored == expected
    rolling = rolling_windows(ids, max_length=8, prefix_id=7, context_length=8 - stride + 1)
    assert [token for _, tokens in rolling for token in tokens] == ids
    text = [7, *ids]
    for context, tokens in [*strided, *rolling]:
        both = [*context, *tokens]
        start = text.index(both[0])
        assert text[start : start + len(both)] == both
        assert context and len(both) <= 9
    assert all(len(context) + len(tokens) <= 8 for context, tokens in strided)


def test_windows_that_do_not_fit_are_refused() -> None:
    """A stride over the window would leave tokens out."""
    with pytest.raises(ScoringError, match="windows of 8 tokens with stride 9"):
        strided_windows([1, 2], max_length=8, stride=9)
    with pytest.raises(ScoringError, match="context of 0"):
        rolling_windows([1, 2], max_length=8, prefix_id=0, context_length=0)


def test_a_text_without_a_token_to_score_is_none(reference: Any) -> None:
    """Neither zero nor one: nothing was read before its only token."""
    model, tokenizer, _, _ = reference
    empty, one = text_losses(model, tokenizer, ["", "a b c"], batch_size=2)
    assert empty is None
    assert one is not None
    assert text_losses(model, tokenizer, [], batch_size=2) == []


def test_memory_that_runs_out_halves_a_batch(reference: Any) -> None:
    """A model that holds two rows at a time gives the same losses."""
    model, _, pairs, _ = reference

    class Small:
        device, config = model.device, model.config

        def __call__(self, *, input_ids: torch.Tensor, **others: Any) -> Any:
            if len(input_ids) > 2:
                raise torch.OutOfMemoryError
            return model(input_ids=input_ids, **others)

    small: Any = Small()
    found = answer_losses(small, pairs, batch_size=8, pad_id=0)
    expected = answer_losses(model, pairs, batch_size=2, pad_id=0)
    assert [one.nll_sum_nats for one in found] == pytest.approx(
        [one.nll_sum_nats for one in expected], rel=1e-5
    )


def test_an_end_token_is_in_the_perplexity_and_not_in_the_bits() -> None:
    """Tokens 0, 1, 2 have 1/2, 1/4, 1/4, and 2 ends: the bits of [0, 1] are 1 + 2, over 6 bytes.

    With the prompt's second token (0, one bit) the whole has 6 bits.
    """
    [one] = score_pair_of_six_bytes([0, 1, 2])
    assert one.answer.nll_sum_nats == pytest.approx(5 * math.log(2))
    assert one.answer.tokens == 3
    assert one.whole.nll_sum_nats == pytest.approx(6 * math.log(2))
    assert one.whole.tokens == 4
    assert bits_per_byte([one.answer]) == pytest.approx(3 / 6)


def test_an_answer_without_an_end_token_has_all_its_bits() -> None:
    """Tokens 0, 1 have one and two bits, and the last of them ends nothing: 3 over 6 bytes."""
    [one] = score_pair_of_six_bytes([0, 1])
    assert bits_per_byte([one.answer]) == pytest.approx(3 / 6)


def score_pair_of_six_bytes(answer: list[int]) -> list[PairLosses]:
    """Score an answer of six bytes that the token 2 ends."""
    return pair_losses(
        constant(0.5, 0.25, 0.25),
        [([0, 0], answer)],
        batch_size=1,
        pad_id=0,
        answer_bytes=[6],
        end_ids=[2],
    )


def test_bits_per_byte_by_hand() -> None:
    """3 ln 2 nats over 2 + 4 bytes are half a bit per byte; with its interval as well."""
    losses = [RowLoss(math.log(2), 1, 2), RowLoss(2 * math.log(2), 1, 4)]
    estimate = estimate_bits_per_byte(losses, resamples=50)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.5, 0.5, 0.5))


def test_figures_of_no_rows_are_unknown() -> None:
    """Neither zero nor infinite."""
    assert bits_per_byte([]) is None
    assert estimate_perplexity([], resamples=50).value is None


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


def test_an_empty_answer_is_refused() -> None:
    """It would be a loss of zero over no token."""
    with pytest.raises(ScoringError, match=r"row 1 has 1 tokens of context and 0 to score"):
        answer_losses(constant(0.5, 0.5), [([0], [1]), ([0], [])], batch_size=1, pad_id=0)
