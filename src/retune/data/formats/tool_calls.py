"""Calls of tools, in the spellings of OpenAI, ShareGPT and Hermes, brought to one.

A call is ``{"name": ..., "arguments": {...}}``; a turn holds a JSON list of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retune.data.formats.cells import (
    Row,
    as_json,
    as_list,
    as_text,
    ascii_of,
    is_blank,
    kind_of,
    python_value,
    says_nothing,
)
from retune.data.formats.names import keys_for
from retune.errors import DataError

_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input")
_CALLS_NAMES = ("tool_calls",)
_CALL_NAMES = ("function_call", "tool_call")
_TAGGED_CALL = re.compile(r"\s*<tool_call>\s*(\{.*?\}|\[.*?\])\s*</tool_call>\s*", re.DOTALL)
_TAGGED_ANSWER = re.compile(r"\s*<tool_response>\s*(.*?)\s*</tool_response>\s*", re.DOTALL)
_SHOWN = 60


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        name: Of the tool.
        arguments: By name.
        id: What the tool's answer names it by, or None.
    """

    name: str
    arguments: Mapping[str, Any]
    id: str | None = None


def calls_of(turn: Row, number: int) -> list[Call]:
    """Read the calls that a turn of the assistant makes, under OpenAI's keys.

    Args:
        turn: The turn.
        number: Its place, from 1, for messages.

    Returns:
        The calls; none where the turn makes none.

    Raises:
        DataError: A call has no name, or arguments that are no JSON object.
    """
    listed = as_list(_first_filled(turn, _CALLS_NAMES))
    single = _first_filled(turn, _CALL_NAMES)
    if not is_blank(listed) and not is_blank(single):
        raise DataError(f"turn {number} has both tool_calls and function_call: keep one")
    if is_blank(listed):
        return [] if is_blank(single) else read_calls(single, number)
    if not isinstance(listed, list):
        raise DataError(
            f"tool_calls of turn {number} must be a list of calls, found {kind_of(listed)}"
        )
    return read_calls(listed, number)


def _first_filled(turn: Row, names: tuple[str, ...]) -> Any:
    # Whatever a key is called, as everywhere: `toolCalls` is not passed over.
    return next(
        (turn[key] for key in keys_for(names, tuple(turn)) if not says_nothing(turn[key])), None
    )


def are_calls(value: Any) -> bool:
    """Say whether a value is a list of calls, or the JSON of one: each a name and arguments."""
    listed = as_list(value)
    return (
        isinstance(listed, list)
        and bool(listed)
        and all(isinstance(each, Mapping) and set(each) == {"name", "arguments"} for each in listed)
    )


def read_calls(value: Any, number: int) -> list[Call]:
    """Read one call or several, also as JSON in a text.

    Args:
        value: An object, a list of objects, or the JSON of either.
        number: Place of the turn, from 1, for messages.

    Returns:
        The calls.

    Raises:
        DataError: It is no call.
    """
    found = _parsed(value, f"the call of turn {number}") if isinstance(value, str) else value
    listed = found if isinstance(found, list) else [found]
    if not listed:
        raise DataError(f"turn {number} is a list of no calls")
    return [_call(each, number) for each in listed]


def tagged_calls(text: str, number: int) -> tuple[str, list[Call]]:
    """Take calls out of a text that ends with them, as Hermes writes them.

    Args:
        text: What the assistant says: words, then ``<tool_call>{...}</tool_call>`` blocks.
        number: Place of the turn, from 1, for messages.

    Returns:
        The words before, and the calls; the whole text and none where it ends otherwise.

    Raises:
        DataError: A block holds no call.

    Example:
        >>> tagged_calls('Vejo. <tool_call>{"name": "hora", "arguments": {}}</tool_call>', 2)
        ('Vejo.', [Call(name='hora', arguments={}, id=None)])
    """
    start = text.find("<tool_call>")
    if start < 0 or _TAGGED_CALL.sub("", text[start:]):
        return text, []
    calls = [
        call for block in _TAGGED_CALL.findall(text[start:]) for call in read_calls(block, number)
    ]
    return text[:start].rstrip(), calls


def untagged_answer(text: str) -> str:
    """Return what a tool answers without the tags that Hermes puts around it."""
    found = _TAGGED_ANSWER.fullmatch(text)
    return found.group(1) if found and "<tool_response>" not in found.group(1) else text


def write_calls(calls: list[Call], number: int) -> str | None:
    """Write calls as rows keep them; None for none."""
    listed = [{"name": call.name, "arguments": call.arguments} for call in calls]
    return as_json(f"the call of turn {number}", listed) if listed else None


def read_tools(key: str, value: Any) -> str | None:
    """Read the list of tools that a row states.

    Args:
        key: Where it stands.
        value: A list of objects with a name (or with a `function` that has one), or its JSON.

    Returns:
        The list as JSON, each tool as the row states it; None for a list of none.

    Raises:
        DataError: It is no such list.
    """
    found = _parsed(value, ascii_of(key)) if isinstance(value, str) else value
    listed = found if isinstance(found, list) else [found]
    tools = [
        _parsed(tool, f"a tool of {ascii_of(key)}") if isinstance(tool, str) else tool
        for tool in listed
    ]
    for tool in tools:
        inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
        name = inner.get("name") if isinstance(inner, Mapping) else None
        if not isinstance(name, str) or not name.strip():
            raise DataError(
                f"{ascii_of(key)} holds {ascii_of(tool):.{_SHOWN}}: expected a list of tools such "
                'as {"name": ..., "description": ..., "parameters": {...}}'
            )
    return as_json(ascii_of(key), tools) if tools else None


def _call(value: Any, number: int) -> Call:
    if isinstance(value, str):
        value = _parsed(value, f"the call of turn {number}")
    if not isinstance(value, Mapping):
        raise DataError(
            f"the call of turn {number} is {kind_of(value)}: expected an object such as "
            '{"name": ..., "arguments": {...}}'
        )
    made = value.get("function")
    inner = made if isinstance(made, Mapping) else value
    name = inner.get("name")
    if is_blank(name) or not isinstance(name, str):
        raise DataError(
            f"the call of turn {number} names no tool: found {ascii_of(value):.{_SHOWN}}"
        )
    key = next((key for key in _ARGUMENT_KEYS if inner.get(key) is not None), None)
    given = inner[key] if key else {}
    if isinstance(given, str):
        given = _parsed(given, f"{key} of the call of {ascii_of(name)} in turn {number}")
    if not isinstance(given, Mapping):
        raise DataError(
            f"{key} of the call of {ascii_of(name)} in turn {number}: expected an object, found "
            f"{kind_of(given)}"
        )
    called = value.get("id")
    return Call(as_text("name", name), given, called if isinstance(called, str) else None)


def _parsed(text: str, what: str) -> Any:
    if not text.strip():
        return {}
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        found = python_value(text.strip())
        if found is not None:
            return found  # Sets that were written by str() of Python's objects have them so.
        raise DataError(f"{what} is no JSON ({ascii_of(text):.{_SHOWN}})") from error
