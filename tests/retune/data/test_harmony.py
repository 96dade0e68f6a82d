"""Harmony: reading its messages, mending a missing final channel, finding what does not fit."""

from __future__ import annotations

import pytest

from retune.data.harmony import check_harmony, parse_harmony, repair_harmony
from retune.errors import DataError

USER = "<|start|>user<|message|>Quantos?<|end|>"
FINAL = "<|start|>assistant<|channel|>final<|message|>Dois.<|return|>"
THOUGHT = "<|start|>assistant<|channel|>analysis<|message|>Conto.<|end|>"


def test_analysis_and_final_are_one_turn() -> None:
    """The thinking belongs to the answer after it."""
    assert parse_harmony(USER + THOUGHT + FINAL) == [
        {"role": "user", "content": "Quantos?"},
        {"role": "assistant", "content": "Dois.", "thinking": "Conto."},
    ]


@pytest.mark.parametrize(
    "broken",
    [
        "<|start|>assistant<|message|>Dois.<|end|>",
        "<|start|>assistant<|message|>Dois.<|return|>",
    ],
)
def test_an_answer_without_channel_is_put_into_the_final_one(broken: str) -> None:
    """And ends as the last message of a chat does, so that the model learns to stop."""
    assert repair_harmony(USER + broken) == (USER + FINAL, True)
    assert check_harmony(USER + broken) == "a message of the assistant has no channel"


@pytest.mark.parametrize("closing", ["", "<|end|>", "<|return|>"])
def test_text_after_the_analysis_is_the_final_answer(closing: str) -> None:
    """Whether it is closed or not."""
    mended, repaired = repair_harmony(USER + THOUGHT + "Dois." + closing)
    assert (mended, repaired) == (USER + THOUGHT + FINAL, True)
    turns = parse_harmony(USER + THOUGHT + "Dois." + closing)
    assert turns[-1] == {
        "role": "assistant",
        "content": "Dois.",
        "thinking": "Conto.",
        "repaired": True,
    }


def test_an_untagged_answer_before_another_turn_is_closed_by_end() -> None:
    """Only the last message returns."""
    mended, _ = repair_harmony(THOUGHT + "Dois." + USER + FINAL)
    first = "<|start|>assistant<|channel|>final<|message|>Dois.<|end|>"
    assert mended == THOUGHT + first + USER + FINAL
    assert check_harmony(mended) is None


def test_a_whole_conversation_is_left_as_it_is() -> None:
    """Nothing to mend, nothing to find."""
    whole = USER + THOUGHT + FINAL
    assert repair_harmony(whole) == (whole, False)
    assert check_harmony(whole) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Oi" + USER, "'Oi' stands before the first <|start|>"),
        ("<|message|>Oi<|end|>", "<|message|> stands at the beginning, expected <|start|>"),
        ("<|start|>user<|end|>", "<|end|> stands after <|start|>, expected <|channel|> or"),
        ("<|start|><|message|>Oi<|end|>", "<|start|> is followed by no role"),
        (USER + "Oi" + FINAL, "'Oi' stands outside of a message"),
        (FINAL.replace("final", "last"), "the unknown channel 'last', expected analysis, comm"),
        (FINAL + USER, "<|start|> stands after <|return|>, expected nothing more"),
        (FINAL.removesuffix("<|return|>"), "the last message is not closed"),
        ("", "no message"),
    ],
)
def test_what_does_not_fit_is_named(text: str, fault: str) -> None:
    """The first tag or text out of its place."""
    assert (check_harmony(text) or "").startswith(fault)


def test_an_analysis_without_answer_is_refused() -> None:
    """There is nothing to learn to say."""
    with pytest.raises(DataError, match="followed by no answer"):
        parse_harmony(USER + THOUGHT)


def test_a_tool_call_closes_its_message() -> None:
    """The channel names the tool, the content its type."""
    call = (
        "<|start|>assistant<|channel|>commentary to=functions.find <|constrain|>json"
        '<|message|>{"city": "Faro"}<|call|>'
    )
    assert check_harmony(USER + call + FINAL) is None
