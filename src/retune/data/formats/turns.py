"""Rows that are turns of a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retune.data.formats.cells import Cells, Row, as_list, as_text, ascii_of, kind_of
from retune.errors import DataError

Fields = dict[str, Any]

_ROLES = ("system", "developer", "user", "assistant")
_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "assistant": "assistant",
}
_THINKING_KEYS = ("thinking", "reasoning_content", "reasoning")


def read_messages(row: Row, cells: Cells) -> Fields:
    """Read OpenAI's layout: a list of ``{"role": ..., "content": ...}``."""
    return fields_of_turns(_list_of(*cells.value(row, "messages")))


def read_conversations(row: Row, cells: Cells) -> Fields:
    """Read ShareGPT's layout: a list of ``{"from": "human" | "gpt" | "system", "value": ...}``."""
    key, value = cells.value(row, "messages")
    turns = [_from_sharegpt(turn) for turn in _list_of(key, value)]
    # Some sets of this layout keep the system message beside the turns.
    beside = row.get("system")
    if isinstance(beside, str) and beside.strip() and turns and turns[0].get("role") != "system":
        turns = [{"role": "system", "content": beside}, *turns]
    return fields_of_turns(turns)


def read_prompt_completion(row: Row, cells: Cells) -> Fields:
    """Read ``prompt`` and ``completion``: two texts, or two lists of messages."""
    asked, said = (as_list(cells.value(row, role)[1]) for role in ("question", "answer"))
    if not isinstance(asked, list) and not isinstance(said, list):
        return {"question": cells.text(row, "question"), "answer": cells.text(row, "answer")}
    turns = [
        *(asked if isinstance(asked, list) else [{"role": "user", "content": asked}]),
        *(said if isinstance(said, list) else [{"role": "assistant", "content": said}]),
    ]
    return fields_of_turns(turns)


def read_harmony(row: Row, cells: Cells) -> Fields:
    """Read text that is rendered with gpt-oss's tags already."""
    from retune.data.chats.harmony import parse_harmony

    return fields_of_turns(parse_harmony(cells.text(row, "answer")))


def fields_of_turns(turns: list[Any]) -> Fields:
    """Take the last question and answer out of a conversation.

    Args:
        turns: Messages with role and content, the last one the assistant's.

    Returns:
        history (what stands before the last question), question, thinking and answer, and whether
        a channel was put back.

    Raises:
        DataError: The turns are no such conversation; the message is the reason alone.
    """
    if not all(isinstance(turn, Mapping) for turn in turns):
        raise DataError('a turn is no object such as {"role": "user", "content": "..."}')
    roles = [_role(turn) for turn in turns]
    if len(roles) < 2 or roles[-1] != "assistant":
        last = repr(roles[-1]) if roles else "nothing"
        raise DataError(
            "the last of the turns must be the assistant's, after one of the user; found "
            f"{len(roles)} turns that end with {last}"
        )
    if roles[-2] != "user":
        raise DataError(f"the assistant's last turn follows one of {roles[-2]!r}, expected 'user'")
    late = next((place for place, role in enumerate(roles) if place and role == "system"), None)
    if late is not None:
        raise DataError(f"turn {late + 1} is a system message, which must be the first one")
    contents = [_content(turn, place) for place, turn in enumerate(turns, start=1)]
    told = [
        {"role": role, "content": content} for role, content in zip(roles, contents, strict=True)
    ]
    return {
        "history": told[:-2],
        "question": contents[-2],
        "thinking": _thinking(turns[-1]),
        "answer": contents[-1],
        "repaired": "repaired" in turns[-1],
    }


def _list_of(key: str, value: Any) -> list[Any]:
    value = as_list(value)
    if not isinstance(value, list):
        found = kind_of(value)
        raise DataError(f"{ascii_of(key)} must be a list of turns, found {found} (mixed types)")
    return value


def _from_sharegpt(turn: Any) -> Any:
    if not isinstance(turn, Mapping) or turn.get("from") is None:
        return turn
    said = turn["from"]
    role = _SHAREGPT_ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        known = ", ".join(_SHAREGPT_ROLES)
        raise DataError(f"a turn is from {ascii_of(said):.60}, expected one of {known}")
    return {"role": role, "content": turn.get("value")}


def _role(turn: Row) -> str:
    role = turn.get("role")
    if role in ("tool", "function"):
        raise DataError("has the answer of a tool: rows with tool calls are not supported")
    if role not in _ROLES:
        known = ", ".join(_ROLES)
        raise DataError(f"a turn has the role {ascii_of(role):.60}, expected one of {known}")
    return str(role)


def _content(turn: Row, number: int) -> str:
    if turn.get("tool_calls") or turn.get("function_call"):
        raise DataError(f"turn {number} calls a tool: rows with tool calls are not supported")
    content = turn.get("content")
    if isinstance(content, list):
        content = "".join(_part(part, number) for part in content)
    return as_text(f"content of turn {number}", content)


def _part(part: Any, number: int) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else kind_of(part)
    if kind != "text":
        raise DataError(
            f"turn {number} holds a part of type {ascii_of(kind):.60}: only text is supported"
        )
    return as_text(f"part of turn {number}", part.get("text"))


def _thinking(turn: Row) -> str | None:
    for key in _THINKING_KEYS:
        value = turn.get(key)
        if value is not None and value != "":
            return as_text(key, value)
    return None
