"""Pairs of answers in the layouts of public sets: one prompt, two answers."""

from __future__ import annotations

from typing import Any

import pytest

from retune.data.formats.preferences import read_pair
from retune.errors import DataError

USER = {"role": "user", "content": "q"}
SYSTEM = {"role": "system", "content": "s"}


def said(text: str, **beside: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **beside}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": [USER], "chosen": [said("a")], "rejected": [said("b")]},
        {"chosen": [USER, said("a")], "rejected": [USER, said("b")]},
        {"prompt": "q", "chosen": [USER, said("a")], "rejected": [USER, said("b")]},
        {"question": "q", "chosen": "a", "rejected": "b"},
        {"instruction": "q", "input": "", "chosen": "a", "rejected": "b"},
        {"messages": [USER], "chosen": said("a"), "rejected": said("b")},
        {"messages": [USER, said("a")], "rejected_response": "b"},
        {"conversations": [{"from": "human", "value": "q"}],
         "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}},
        {"input": {"messages": [USER], "tools": []}, "preferred_output": [said("a")],
         "non_preferred_output": [said("b")]},
        {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
        {"prompt": '[{"role": "user", "content": "q"}]', "chosen": "a", "rejected": "b"},
        {"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 4, "source": "x",
         "system": "", "weight": 1, "images": []},
    ],
)  # fmt: skip
def test_every_layout_is_the_same_pair(row: dict[str, Any]) -> None:
    """Whoever wrote it."""
    pair = read_pair(row)
    assert (pair.history, pair.question, pair.context) == ((), "q", "")
    assert (pair.chosen, pair.rejected) == ("a", "b")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q2", "system": "s", "history": [["q", "a1"]], "chosen": "a", "rejected": "b"},
        {"chosen": [SYSTEM, USER, said("a1"), {**USER, "content": "q2"}, said("a")],
         "rejected": [SYSTEM, USER, said("a1"), {**USER, "content": "q2"}, said("b")]},
        {"prompt": [SYSTEM, USER, said("a1"), {**USER, "content": "q2"}],
         "chosen": [said("a")], "rejected": "b"},
        {"prompt": "q2", "system": "s",
         "chosen": [USER, said("a1"), {**USER, "content": "q2"}, said("a")],
         "rejected": [USER, said("a1"), {**USER, "content": "q2"}, said("b")]},
    ],
)  # fmt: skip
def test_what_comes_before_is_kept(row: dict[str, Any]) -> None:
    """System message and earlier turns, beside the prompt, in it, or in both conversations."""
    pair = read_pair(row)
    assert pair.history == (SYSTEM, USER, said("a1"))
    assert (pair.question, pair.chosen, pair.rejected) == ("q2", "a", "b")


def test_an_input_is_the_context_of_its_instruction() -> None:
    """It is put where the template puts the context of rows."""
    row = {"instruction": "Resuma.", "input": "Texto.", "chosen": "a", "rejected": "b"}
    assert (read_pair(row).question, read_pair(row).context) == ("Resuma.", "Texto.")


def test_answers_that_repeat_the_prompt_are_cut() -> None:
    """Only where both do, and the prompt is more than a word or two that answers begin with."""
    prompt = "Quanto é dois mais dois?"
    row = {"prompt": prompt, "chosen": f"{prompt}\n4", "rejected": f"{prompt} 5"}
    assert (read_pair(row).chosen, read_pair(row).rejected) == ("4", "5")
    assert read_pair({**row, "rejected": "5"}).chosen == f"{prompt}\n4"
    short = {"prompt": "Oi", "chosen": "Oi, Ana", "rejected": "Oi, oi"}
    assert read_pair(short).chosen == "Oi, Ana"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "q", "chosen": "a"}, "no 'rejected'; the line has 'chosen', 'prompt'"),
        ({"prompt": "q", "chosen": " ", "rejected": "b"}, "'chosen' is empty"),
        ({"prompt": "q", "chosen": "a", "rejected": "a "}, "the same text"),
        ({"chosen": "a", "rejected": "b"}, "no 'prompt'"),
        ({"prompt": "x", "chosen": [USER, said("a")], "rejected": [USER, said("b")]},
         "two different prompts"),
        ({"prompt": "q", "chosen": [said("a"), USER, said("c")], "rejected": [said("b")]},
         "'chosen' goes on with 3 turns where the two part"),
        ({"prompt": "q", "chosen": [USER], "rejected": [said("b")]}, "ends with a turn of 'user'"),
        ({"prompt": [USER, said("x")], "chosen": "a", "rejected": "b"}, "ends with an answer"),
        ({"prompt": "q", "chosen": said("a", thinking="t"), "rejected": "b"}, "has a thought"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "images": ["x"]}, "'images' is a filled"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "weight": 0.5}, "'weight' is 0.5"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "tools": [{"name": "f"}]}, "'tools' is"),
        ({"instruction": "i", "question": "q", "chosen": "a", "rejected": "b"}, "could each be"),
        ({"prompt": [SYSTEM, USER], "system": "t", "chosen": "a", "rejected": "b"},
         "another one stands beside"),
        ({"prompt": {"x": 1}, "chosen": "a", "rejected": "b"}, "found object"),
    ],
)  # fmt: skip
def test_what_is_no_pair_is_refused(row: dict[str, Any], reason: str) -> None:
    """With what was found."""
    with pytest.raises(DataError, match=reason):
        read_pair(row)


def test_the_passage_of_a_question_is_its_context() -> None:
    """Both answers were taken from it."""
    row = {"question": "q", "passage": "p", "chosen": "a", "rejected": "b"}
    assert read_pair(row).context == "p"


def test_an_answer_that_is_not_to_be_learned_is_no_wanted_one() -> None:
    """Its turn says so."""
    row = {"prompt": "q", "chosen": [said("a", weight=0)], "rejected": [said("b")]}
    with pytest.raises(DataError, match="'chosen' is marked as not to be learned"):
        read_pair(row)
