"""Rows with calls of tools: every public spelling is one, and what does not fit is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from retune.data.formats.normalising import Layout
from retune.errors import DataError
from retune.recipe.sections.data import ColumnsConfig

USER = {"role": "user", "content": "q"}
DONE = {"role": "assistant", "content": "a"}
CALL = {"name": "price", "arguments": {"part": 3}}
WRITTEN = '{"part": 3}'
SAID = json.dumps(CALL)


def openai(arguments: Any = WRITTEN, name: str = "c1") -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": "price", "arguments": arguments}}


def calling(*calls: dict[str, Any], content: Any = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def answering(said: Any = "20", **beside: Any) -> dict[str, Any]:
    return {"role": "tool", "content": said, **beside}


def read(*turns: Any) -> dict[str, Any]:
    layout = Layout("messages", ColumnsConfig())
    return layout.normalise({"messages": list(turns)}).fields


def share(*turns: tuple[str, str]) -> dict[str, Any]:
    told = [{"from": who, "value": said} for who, said in turns]
    return Layout("conversations", ColumnsConfig()).normalise({"conversations": told}).fields


STEPS = [
    {"role": "assistant", "content": "", "calls": json.dumps([CALL])},
    {"role": "tool", "content": "20", "name": "price"},
]


@pytest.mark.parametrize(
    "fields",
    [
        read(USER, calling(openai()), answering(tool_call_id="c1"), DONE),
        read(USER, calling(openai({"part": 3}), content=""), answering(), DONE),
        read(USER, calling({"name": "price", "parameters": {"part": 3}}), answering(), DONE),
        read(
            USER,
            {"role": "assistant", "function_call": {"name": "price", "arguments": WRITTEN}},
            {"role": "function", "name": "price", "content": "20"},
            DONE,
        ),
        share(("human", "q"), ("function_call", SAID), ("observation", "20"), ("gpt", "a")),
        share(("user", "q"), ("tool_call", SAID), ("tool_response", "20"), ("model", "a")),
        share(
            ("human", "q"),
            ("gpt", f"<tool_call>\n{SAID}\n</tool_call>"),
            ("tool", "<tool_response>\n20\n</tool_response>"),
            ("gpt", "a"),
        ),
    ],
)
def test_every_spelling_is_the_same_row(fields: dict[str, Any]) -> None:
    """OpenAI's of today and before, ShareGPT's, Hermes': question, two steps, answer."""
    assert (fields["question"], fields["answer"], fields["calls"]) == ("q", "a", None)
    assert fields["steps"] == STEPS
    assert fields["history"] == []


def test_an_answer_may_be_a_call() -> None:
    """With or without words before it."""
    fields = read(USER, calling(openai()))
    assert (fields["answer"], fields["steps"]) == ("", [])
    assert json.loads(fields["calls"]) == [CALL]
    assert read(USER, calling(openai(), content="I look."))["answer"] == "I look."
    two = share(("human", "q"), ("gpt", "I look."), ("function_call", SAID))
    assert (two["answer"], json.loads(two["calls"])) == ("I look.", [CALL])


def test_calls_at_once_are_one_turn() -> None:
    """Answers are told apart by their ids, in any order; without ids by their own order."""
    other = {**openai("{}", "c2"), "function": {"name": "stock", "arguments": "{}"}}
    fields = read(
        USER,
        calling(openai(), other),
        answering("7", tool_call_id="c2"),
        answering("20", tool_call_id="c1"),
        DONE,
    )
    called, *answers = fields["steps"]
    assert [call["name"] for call in json.loads(called["calls"])] == ["price", "stock"]
    assert [(turn["name"], turn["content"]) for turn in answers] == [
        ("stock", "7"),
        ("price", "20"),
    ]
    stock = json.dumps({"name": "stock", "arguments": {}})
    listed = share(
        ("human", "q"), ("function_call", SAID), ("function_call", stock),
        ("observation", "20"), ("observation", "7"), ("gpt", "a"),
    )  # fmt: skip
    assert [turn.get("name") for turn in listed["steps"]] == [None, "price", "stock"]


def test_calls_of_an_earlier_question_are_history() -> None:
    """The last question alone has steps."""
    fields = read(USER, calling(openai()), answering(), DONE, {**USER, "content": "q2"}, DONE)
    assert [turn["role"] for turn in fields["history"]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert (fields["question"], fields["steps"]) == ("q2", [])


def test_a_step_may_be_left_unlearned() -> None:
    """Marks hold for calls too."""
    fields = read(USER, {**calling(openai()), "weight": 0}, answering(), DONE)
    assert fields["steps"][0]["learned"] is False


def test_a_tool_may_answer_an_object_or_nothing() -> None:
    """An object is its JSON."""
    fields = read(USER, calling(openai()), answering({"reais": 20}), DONE)
    assert json.loads(fields["steps"][1]["content"]) == {"reais": 20}
    assert read(USER, calling(openai()), answering(None), DONE)["steps"][1]["content"] == ""


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ((USER, calling(openai("{x")), answering(), DONE), "in turn 2 is no JSON"),
        ((USER, calling(openai("[1]")), answering(), DONE), "expected an object, found list"),
        ((USER, calling({"id": "c"}), answering(), DONE), "the call of turn 2 names no tool"),
        ((USER, calling(openai()), DONE), "turn 3 follows a call of 'price' that no tool answers"),
        ((USER, calling(openai()), USER, DONE), "turn 3 follows a call"),
        ((USER, answering(), DONE), "turn 2 is the answer of a tool, but none was called"),
        ((USER, calling(openai()), answering(tool_call_id="x"), DONE), "answers the call 'x'"),
        ((USER, calling(openai()), answering(), answering(), DONE), "of a tool too many"),
        (
            (USER, calling(openai(), openai(name="c2")), answering(tool_call_id="c1"), DONE),
            "turn 4 follows a call",
        ),
        ((USER, calling(openai()), answering()), "end with 'tool'"),
        (({**USER, "tool_calls": [openai()]}, DONE), "calls a tool, but is one of 'user'"),
        ((USER, {**calling(openai()), "function_call": CALL}), "both tool_calls and function_call"),
        ((USER, {**DONE, "tool_calls": "price"}), "must be a list of calls, found text"),
    ],
)
def test_what_does_not_fit_together_is_refused(turns: tuple[Any, ...], reason: str) -> None:
    """The turn is named, with what was found."""
    with pytest.raises(DataError, match=reason):
        read(*turns)


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        (({"content": "q"}, {"content": "a"}), "turn 1 does not say who speaks.*found 'content'"),
        (({"role": "user", "msg": "q"}, DONE), "turn 1 has no content: .*found 'msg', 'role'"),
        (
            ({"role": "user", "content": [{"type": "text", "body": "q"}]}, DONE),
            "found 'body', 'type'",
        ),
        (({"role": "user", "content": [{"type": "audio"}]}, DONE), "a part of type 'audio'"),
    ],
)
def test_what_cannot_be_read_says_what_is_there(turns: tuple[Any, ...], reason: str) -> None:
    """Not only what was missed."""
    with pytest.raises(DataError, match=reason):
        read(*turns)


@pytest.mark.parametrize(
    "turns",
    [
        ({"role": "user", "content": [{"type": "text", "value": "q"}]}, DONE),
        ({"role": "User", "content": "q"}, {"role": "Assistant", "content": "a"}),
        ({"role": "human", "value": "q"}, {"role": "AI", "text": "a"}),
        ({"from": "user", "content": "q"}, {"from": "bot", "content": "a"}),
        ({"speaker": "User", "text": "q"}, {"speaker": "chatbot", "text": "a"}),
        ({"role": "system", "content": ""}, USER, DONE),
        ({"role": "developer", "content": None}, USER, DONE),
        ({"role": "user", "content": {"type": "text", "text": "q"}}, DONE),
        ({"role": "user", "content": ["q"], "value": None}, DONE),
        ({"role": "user", "content": [{"text": "q"}, {"type": "text", "text": ""}]}, DONE),
    ],
)
def test_spellings_of_turns(turns: tuple[Any, ...]) -> None:
    """All of them ask q and answer a; an empty system message is none."""
    fields = read(*turns)
    assert (fields["history"], fields["question"], fields["answer"]) == ([], "q", "a")


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "toolCalls": [openai()]},
        {"role": "assistant", "content": None, "tool_call": CALL},
        {"role": "assistant", "content": f"<tool_call>[{SAID}]</tool_call>"},
        {"role": "assistant", "content": f"<tool_call>\n{CALL}\n</tool_call>"},
        {"role": "assistant", "tool_calls": [openai(str(CALL["arguments"]))]},
    ],
)
def test_calls_are_read_as_programs_write_them(turn: dict[str, Any]) -> None:
    """Keys with capitals, lists in one tag, and objects as Python prints them."""
    assert json.loads(read(USER, turn)["calls"]) == [CALL]


def test_a_call_that_is_answered_twice_is_refused() -> None:
    """Else the second answer would stand for the call that none answers."""
    with pytest.raises(DataError, match="turn 4 answers the call 'c1' a second time"):
        read(
            USER,
            calling(openai(), openai(name="c2")),
            answering(tool_call_id="c1"),
            answering(tool_call_id="c1"),
            DONE,
        )


@pytest.mark.parametrize("dumped", [True, False])
def test_calls_in_an_answer_beside_tools_are_calls(dumped: bool) -> None:
    """xLAM: a query, its tools, and the calls that answer it, each as JSON."""
    layout = Layout("instruction", ColumnsConfig(question="query", answer="answers"))
    tools = [{"name": "price", "parameters": {}}]
    row = {"query": "q", "tools": tools, "answers": [CALL, CALL]}
    fields = layout.normalise(
        {
            key: json.dumps(value) if dumped and key != "query" else value
            for key, value in row.items()
        }
    ).fields
    assert (fields["answer"], json.loads(fields["calls"])) == ("", [CALL, CALL])
    assert json.loads(fields["tools"]) == tools
