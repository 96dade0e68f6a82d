"""One turn of a conversation, under whichever keys a public layout keeps its parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from retune.data.formats.cells import (
    Row,
    as_json,
    as_text,
    ascii_of,
    is_blank,
    kind_of,
    name_keys,
)
from retune.data.formats.marks import is_learned
from retune.data.formats.names import THINKING_NAMES, fold_name, keys_for
from retune.data.formats.tool_calls import (
    Call,
    calls_of,
    read_calls,
    tagged_calls,
    untagged_answer,
)
from retune.errors import DataError

ROLE_KEYS = ("role", "from", "speaker", "sender")
"""Keys of who speaks."""
CONTENT_KEYS = ("content", "value", "text", "message")
"""Keys of what is said."""

CALLER = "caller"
"""Role of turns that are nothing but calls; they are the assistant's."""
ROLES = {
    "system": "system",
    "sistema": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "usuario": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "claude": "assistant",
    "assistente": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "tool_result": "tool",
    "function_response": "tool",
    "ipython": "tool",
    "function_call": CALLER,
    "tool_call": CALLER,
}
"""Names of roles, folded, and what they are brought to."""
_SPOKEN_CHANNELS = ("final", "commentary")
_TEXT_PARTS = ("text", "input_text", "output_text")
_SHOWN = 60


class Turn(NamedTuple):
    """A turn in the one spelling.

    Attributes:
        role: system, developer, user, assistant or tool.
        content: Its text; empty where an assistant only calls, or a tool answers nothing.
        thinking: What an assistant thinks before.
        calls: Calls of tools that an assistant makes.
        name: Of the tool that answers, else of who speaks.
        answers: Id of the call that a tool answers.
        learned: Whether it may carry loss.
        repaired: Whether a missing channel was put back.
    """

    role: str
    content: str
    thinking: str | None = None
    calls: tuple[Call, ...] = ()
    name: str | None = None
    answers: str | None = None
    learned: bool = True
    repaired: bool = False


def names_a_role(turn: Any) -> str | None:
    """Return the key under which a turn says who speaks; None where it does not."""
    if not isinstance(turn, Mapping):
        return None
    return next((key for key in ROLE_KEYS if turn.get(key) is not None), None)


def read_turn(turn: Any, number: int, ignore: frozenset[str] = frozenset()) -> Turn:
    """Read a turn.

    Args:
        turn: An object with a role and a content.
        number: Its place, from 1, for messages.
        ignore: Keys with a meaning that are passed over.

    Returns:
        The turn; its content is empty where it is blank and the role lets it be.

    Raises:
        DataError: It is none, or says what cannot be followed; the message is the reason alone.
    """
    if not isinstance(turn, Mapping):
        raise DataError('a turn is no object such as {"role": "user", "content": "..."}')
    if ignore:
        turn = {key: value for key, value in turn.items() if key not in ignore}
    role = _role(turn, number)
    learned = is_learned(turn, number)
    thought, said = _content(turn, number, role)
    own = _thinking(turn, number)
    thinking = own if thought is None or own == thought else thought
    if own and thought and own != thought:
        raise DataError(f"turn {number} has two different thoughts: in its content and beside it")
    name = turn.get("name")
    name = as_text("name", name) if isinstance(name, str) and name.strip() else None
    calls = calls_of(turn, number)
    if role == CALLER:
        role, calls, said = "assistant", [*calls, *read_calls(said, number)], ""
    if role == "assistant" and not calls:
        said, calls = tagged_calls(said, number)
    if role != "assistant" and (calls or thinking):
        what = "calls a tool" if calls else "has a thought"
        raise DataError(f"turn {number} {what}, but is one of {role!r}, expected 'assistant'")
    answers = turn.get("tool_call_id") or turn.get("id") if role == "tool" else None
    if role == "tool":
        said = untagged_answer(said)
    if not said.strip():
        if role in ("user", "assistant") and not calls:
            _refuse_empty(turn, number)
        said = ""
    return Turn(
        role,
        said,
        thinking,
        tuple(calls),
        name,
        answers if isinstance(answers, str) else None,
        learned,
        "repaired" in turn,
    )


def _role(turn: Row, number: int) -> str:
    key = names_a_role(turn)
    if key is None:
        raise DataError(
            f"turn {number} does not say who speaks: expected 'role' or 'from', found "
            f"{name_keys(turn)}"
        )
    said = turn[key]
    role = ROLES.get(fold_name(said[:_SHOWN])) if isinstance(said, str) else None
    if role is None:
        known = ", ".join(ROLES)
        what = "is from" if key == "from" else f"has the {key}"
        raise DataError(f"a turn {what} {ascii_of(said):.{_SHOWN}}, expected one of {known}")
    channel = turn.get("channel")
    if not is_blank(channel) and channel not in _SPOKEN_CHANNELS:
        raise DataError(
            f"turn {number} is of the channel {ascii_of(channel):.{_SHOWN}}, expected final: put "
            "thoughts under 'thinking' of the turn that they belong to"
        )
    return role


def _content(turn: Row, number: int, role: str) -> tuple[str | None, str]:
    """Return what a turn holds as thought among its parts, and what it says."""
    keys = [key for key in CONTENT_KEYS if key in turn]
    filled = [key for key in keys if not is_blank(turn[key])]
    if not keys and not calls_of(turn, number):
        raise DataError(
            f"turn {number} has no content: expected 'content' or 'value', found {name_keys(turn)}"
        )
    if any(turn[key] != turn[filled[0]] for key in filled[1:]):
        listed = " and ".join(map(ascii_of, filled))
        raise DataError(f"turn {number} says two different things, under {listed}: keep one")
    if not filled:
        return None, ""
    content = turn[filled[0]]
    if role in ("tool", CALLER) and not isinstance(content, str) and not _are_parts(content):
        # Calls, and what a tool answers, are JSON: it may stand there as such.
        return None, as_json(f"content of turn {number}", content)
    if isinstance(content, Mapping) and _are_parts([content]):
        content = [content]
    if not isinstance(content, list):
        return None, as_text(f"{filled[0]} of turn {number}", content)
    parts = [_part(part, number) for part in content]
    thoughts = "\n".join(text for is_thought, text in parts if is_thought)
    return thoughts or None, "".join(text for is_thought, text in parts if not is_thought)


def _are_parts(content: Any) -> bool:
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, Mapping) and first.get("type") in _TEXT_PARTS


def _part(part: Any, number: int) -> tuple[bool, str]:
    if isinstance(part, str):
        return False, part
    kind = part.get("type") if isinstance(part, Mapping) else kind_of(part)
    if kind in ("thinking", "reasoning"):
        found = part.get("thinking") or part.get("reasoning") or part.get("text")
        return True, as_text(f"thought of turn {number}", found)
    if kind is None and isinstance(part.get("text"), str):
        kind = "text"  # Nothing else is said of it.
    if kind is None:
        raise DataError(
            f"turn {number} holds a part with {name_keys(part)}: only text is supported, as "
            '{"type": "text", "text": "..."}'
        )
    if kind not in _TEXT_PARTS:
        raise DataError(
            f"turn {number} holds a part of type {ascii_of(kind):.{_SHOWN}}: only text is supported"
        )
    key = next((key for key in ("text", "value", "content") if part.get(key) is not None), None)
    if key is None:
        raise DataError(
            f"part of turn {number} has no text: expected it under 'text', found {name_keys(part)}"
        )
    text = part[key]
    return False, "" if text == "" else _spaced(f"part of turn {number}", text)


def _spaced(what: str, text: Any) -> str:
    # A part may be nothing but the blank between two others.
    return text if isinstance(text, str) and text.isspace() else as_text(what, text)


def _thinking(turn: Row, number: int) -> str | None:
    keys = keys_for(THINKING_NAMES, tuple(turn))
    found = {as_text(key, turn[key]) for key in keys if not is_blank(turn[key])}
    if len(found) > 1:
        listed = " and ".join(map(ascii_of, keys))
        raise DataError(f"turn {number} has two different thoughts, under {listed}: keep one")
    return found.pop() if found else None


def _refuse_empty(turn: Row, number: int) -> None:
    key = next((key for key in CONTENT_KEYS if key in turn), "content")
    raise DataError(f"'{key} of turn {number}' is empty: expected text")
