"""Rows that are turns of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retune.data.formats.beside import read_beside
from retune.data.formats.cells import Cells, Row, as_list, ascii_of, kind_of
from retune.data.formats.dialogue import as_row, join_before, read_turns
from retune.data.formats.tool_calls import write_calls
from retune.data.formats.turn import Turn
from retune.errors import DataError

Fields = dict[str, Any]


def read_messages(row: Row, cells: Cells) -> Fields:
    """Read a list of turns: ``role`` and ``content``, or ``from`` and ``value``.

    Example:
        `{"messages": [{"role": "user", "content": "Oi"}, {"from": "gpt", "value": "Olá!"}]}` has
        the question `Oi` and the answer `Olá!`; turns before the last question are its history.
    """
    beside = read_beside(row, cells)
    turns = read_turns(list_of_turns(*cells.value(row, "messages")), cells.ignore)
    return {**fields_of_turns(turns, beside.before, beside.thinking), "tools": beside.tools}


def read_prompt_completion(row: Row, cells: Cells) -> Fields:
    """Read ``prompt`` and ``completion``: two texts, or two lists of messages.

    Example:
        `{"prompt": "2 + 2 =", "completion": "4"}`, or `{"prompt": [{"role": "user",
        "content": "2 + 2 ="}], "completion": [{"role": "assistant", "content": "4"}]}`.
    """
    beside = read_beside(row, cells)
    asked, said = (as_list(cells.value(row, role)[1]) for role in ("question", "answer"))
    context = cells.text_or_empty(row, "context")
    if not isinstance(asked, list) and not isinstance(said, list):
        question, answer = cells.text(row, "question"), cells.text(row, "answer")
        return {**beside.fields(), "question": question, "context": context, "answer": answer}
    turns = [
        *(asked if isinstance(asked, list) else [{"role": "user", "content": asked}]),
        *(said if isinstance(said, list) else [{"role": "assistant", "content": said}]),
    ]
    fields = fields_of_turns(read_turns(turns, cells.ignore), beside.before, beside.thinking)
    return {**fields, "context": context, "tools": beside.tools}


def read_harmony(row: Row, cells: Cells) -> Fields:
    """Read text that is rendered with gpt-oss's tags already.

    Example:
        `<|start|>user<|message|>Oi<|end|><|start|>assistant<|channel|>final<|message|>Olá!<|return|>`
        has the question `Oi` and the answer `Olá!`.
    """
    from retune.data.harmony import parse_harmony

    return fields_of_turns(read_turns(parse_harmony(cells.text(row, "answer"))))


def list_of_turns(key: str, value: Any) -> list[Any]:
    """Return a list of turns, also one that stands as JSON in a text.

    Args:
        key: Where it stands, for messages.
        value: The list.

    Returns:
        The list; its turns are not looked at.

    Raises:
        DataError: It is no list.
    """
    value = as_list(value)
    if isinstance(value, str) and value.lstrip().startswith("["):
        raise DataError(
            f"{ascii_of(key)} is text that begins like a list, and is neither JSON nor what Python "
            f"prints of a list: {ascii_of(value[:60])}. Write it by json.dumps"
        )
    if not isinstance(value, list):
        found = kind_of(value)
        raise DataError(f"{ascii_of(key)} must be a list of turns, found {found} (mixed types)")
    return value


def fields_of_turns(
    turns: Sequence[Turn], before: Sequence[Turn] = (), thinking: str | None = None
) -> Fields:
    """Take the last question and answer out of a conversation.

    Args:
        turns: The turns, the last one the assistant's.
        before: System message and turns that the row keeps beside them.
        thinking: Thought of the last answer that the row keeps beside them.

    Returns:
        history (what stands before the last question), question, steps (calls of tools and their
        answers behind it), thinking, answer (empty where it is nothing but calls), calls, whether
        the answer may carry loss, and whether a channel was put back.

    Raises:
        DataError: The turns are no such conversation; the message is the reason alone.
    """
    told = join_before(before, turns)
    roles = [turn.role for turn in told]
    if len(roles) < 2 or roles[-1] != "assistant":
        last = repr(roles[-1]) if roles else "nothing"
        raise DataError(
            "the last of the turns must be the assistant's, after one of the user; found "
            f"{len(roles)} turns that end with {last}"
        )
    _refuse_order(roles)
    asked = max(place for place, role in enumerate(roles) if role == "user")
    steps, answer = told[asked + 1 : -1], told[-1]
    if thinking and answer.thinking and thinking != answer.thinking:
        raise DataError("the answer has two different thoughts: in its turn and beside the turns")
    return {
        "history": [as_row(turn, place) for place, turn in enumerate(told[:asked], start=1)],
        "question": told[asked].content,
        "steps": [as_row(turn, place) for place, turn in enumerate(steps, start=asked + 2)],
        "thinking": answer.thinking or thinking,
        "answer": answer.content,
        "calls": write_calls(list(answer.calls), len(told)),
        "learned": None if answer.learned else False,
        "repaired": answer.repaired,
    }


def _refuse_order(roles: list[str]) -> None:
    late = next((place for place, role in enumerate(roles) if place and role == "system"), None)
    if late is not None:
        raise DataError(f"turn {late + 1} is a system message, which must be the first one")
    if roles[-2] not in ("user", "tool"):
        raise DataError(f"the assistant's last turn follows one of {roles[-2]!r}, expected 'user'")
    if "user" not in roles:
        raise DataError(f"no turn is the user's: found {', '.join(dict.fromkeys(roles))}")
    asked = max(place for place, role in enumerate(roles) if role == "user")
    others = [role for role in roles[asked + 1 :] if role not in ("assistant", "tool")]
    if others:
        raise DataError(
            f"between the last question and its answer stands a turn of {others[0]!r}, expected "
            "calls of tools and their answers"
        )
    if roles[asked + 1] == "tool":
        raise DataError(f"turn {asked + 2} is the answer of a tool, but none was called")
