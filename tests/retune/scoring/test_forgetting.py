"""Forgetting: the change on general text, with its interval."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from retune.errors import DataError, ScoringError
from retune.scoring.forgetting import compare_forgetting, read_general_text
from retune.scoring.token_losses import RowLoss


def test_by_hand_on_two_texts() -> None:
    """NLL 4 ln 2 over 4 tokens and 8 bytes becomes 6 ln 2: ln 2 -> 1.5 ln 2, 1/2 -> 3/4 bits."""
    before = [RowLoss(3 * math.log(2), 3, 4), RowLoss(math.log(2), 1, 4)]
    after = [RowLoss(4 * math.log(2), 3, 4), RowLoss(2 * math.log(2), 1, 4)]
    found = compare_forgetting(before, after, resamples=200)
    assert found.nll_per_token is not None
    tokens, size = found.nll_per_token, found.bits_per_byte
    assert tokens.before.value == pytest.approx(math.log(2))
    assert tokens.difference.difference == pytest.approx(math.log(2) / 2)
    assert (size.before.value, size.after.value) == pytest.approx((0.5, 0.75))
    assert size.difference.difference == pytest.approx(0.25)
    assert (size.before.n, found.unscored) == (2, 0)


def test_the_same_model_has_forgotten_nothing() -> None:
    """No difference, no width, and no verdict."""
    losses = [RowLoss(float(n), 5, 9) for n in range(1, 30)]
    difference = compare_forgetting(losses, losses, resamples=200).bits_per_byte.difference
    assert (difference.difference, difference.low, difference.high) == (0.0, 0.0, 0.0)
    assert difference.verdict == "undecided"


def test_worse_on_every_text_is_worse() -> None:
    """Half a nat more on each of 30 texts of 10 bytes: 0.05 / ln 2 bits per byte, surely."""
    before = [RowLoss(5.0 + n, 4, 10) for n in range(30)]
    after = [RowLoss(5.5 + n, 4, 10) for n in range(30)]
    difference = compare_forgetting(before, after, resamples=500).bits_per_byte.difference
    assert difference.difference == pytest.approx(0.05 / math.log(2))
    assert difference.verdict == "worse"


def test_other_tokens_leave_bits_per_byte_alone() -> None:
    """Two tokenizers: NLL per token would compare unlike things."""
    found = compare_forgetting([RowLoss(2.0, 3, 4)], [RowLoss(2.0, 2, 4)], resamples=50)
    assert found.nll_per_token is None
    assert found.bits_per_byte.difference.difference == 0.0


def test_a_text_that_one_side_cannot_score_is_left_out_and_counted() -> None:
    """It is in neither figure."""
    found = compare_forgetting(
        [RowLoss(2.0, 3, 4), RowLoss(9.0, 1, 1)], [RowLoss(2.0, 3, 4), None], resamples=50
    )
    assert (found.unscored, found.bits_per_byte.before.n) == (1, 1)


def test_what_cannot_be_compared_is_refused() -> None:
    """Other texts, or none."""
    with pytest.raises(ScoringError, match="1 texts before and 0 after"):
        compare_forgetting([RowLoss(1.0, 1, 1)], [])
    with pytest.raises(ScoringError, match="0 of 1 texts"):
        compare_forgetting([None], [None])
    with pytest.raises(ScoringError, match="bytes differ"):
        compare_forgetting([RowLoss(1.0, 1, 1)], [RowLoss(1.0, 1, 2)])


def test_the_shipped_text_is_in_both_languages() -> None:
    """Twelve paragraphs each, all different."""
    texts = read_general_text()
    assert len(set(texts)) == 24
    assert sum(" the " in text.lower() or " a " in text.lower() for text in texts) >= 12


def test_a_file_without_texts_says_where(tmp_path: Path) -> None:
    """File and line, and what was expected."""
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a b"}\n{"words": 1}\n', "utf-8")
    with pytest.raises(DataError, match=r"texts.jsonl:2: expected"):
        read_general_text(path)
    path.write_text("", "utf-8")
    with pytest.raises(DataError, match="no texts"):
        read_general_text(path)
