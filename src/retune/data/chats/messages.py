"""Rows as messages: what a chat template is given, in the form that transformers documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from retune.data.chats.faults import malformed

USER_WITH_CONTEXT = "{question}\n\n{context}"
USER_WITH_SCHEMA = (
    "Write the SQL query that answers <USER_QUERY> from the tables in <SCHEMA>. "
    "Reply with the query alone.\n\n"
    "<SCHEMA>\n{schema}\n</SCHEMA>\n\n<USER_QUERY>\n{question}\n</USER_QUERY>"
)
SYSTEM_ROLES = ("system", "developer")

Message = dict[str, Any]
"""role and content; of the assistant also thinking and calls, of a tool its name. `learned` is
false where a row says that the turn carries no loss; no template sees it."""

Call = dict[str, Any]
"""A tool's name, and its arguments as an object."""


def build_messages(
    *,
    question: str,
    system: str | None = None,
    user: str | None = None,
    context: str = "",
    schema: str = "",
    history: Iterable[Mapping[str, Any]] = (),
    steps: Iterable[Mapping[str, Any]] = (),
    with_context: str | None = None,
) -> list[Message]:
    """Return the messages before the answer.

    There is no argument for the answer: whatever the recipe says, none can get into a prompt.

    Args:
        question: What the model is asked.
        system: Text of the system message; None for no such message.
        user: Template of the user message; None for the usual ones.
        context: The text beside the question.
        schema: CREATE statements of the row's database.
        history: Turns before; a system message among them is kept in place of the recipe's.
        steps: Turns between question and answer: calls of tools and what the tools said.
        with_context: How the chat template wants question and context to be joined.

    Returns:
        System message where there is one, earlier turns, the question, and its steps.

    Raises:
        ChatFault: The calls of a turn are no list of names and arguments.
    """
    turns = [_as_message(turn) for turn in history]
    if system and not any(turn["role"] in SYSTEM_ROLES for turn in turns):
        turns.insert(0, {"role": "system", "content": system})
    wording = user or usual_wording(schema, context, with_context)
    asked = wording.format(question=question, context=context, schema=schema)
    return [*turns, {"role": "user", "content": asked}, *(_as_message(turn) for turn in steps)]


def usual_wording(schema: str, context: str, with_context: str | None = None) -> str:
    """Return the template of the user message where the recipe has none of its own.

    Args:
        schema: CREATE statements of the row's database; empty for none.
        context: The text beside the question; empty for none.
        with_context: How the chat template wants question and context to be joined.
    """
    if schema:
        return USER_WITH_SCHEMA
    return (with_context or USER_WITH_CONTEXT) if context else "{question}"


def _as_message(turn: Mapping[str, Any]) -> Message:
    message: Message = {"role": turn["role"], "content": turn["content"] or ""}
    for key in ("thinking", "name"):
        if turn.get(key):
            message[key] = turn[key]
    if turn.get("calls"):
        message["calls"] = read_calls(turn["calls"])
    if turn.get("learned") is False:
        message["learned"] = False
    return message


def answer_message(answer: str, thinking: str | None = None, calls: Iterable[Call] = ()) -> Message:
    """Return the message that a model shall write."""
    message: Message = {"role": "assistant", "content": answer}
    if thinking:
        message["thinking"] = thinking
    calls = list(calls)
    return {**message, "calls": calls} if calls else message


def read_calls(text: str | None) -> list[Call]:
    """Read the calls of a turn.

    Args:
        text: JSON list of ``{"name": ..., "arguments": {...}}``; None for no calls.

    Returns:
        The calls.

    Raises:
        ChatFault: It is no such list.
    """
    calls = _read_list("calls", text)
    for call in calls:
        if not isinstance(call.get("name"), str) or not isinstance(call.get("arguments"), dict):
            raise malformed(
                'a call is no {"name": "...", "arguments": {...}}', f"found {call!r:.80}"
            )
    return calls


def read_tools(text: str | None) -> list[dict[str, Any]] | None:
    """Read the tools that a model may call.

    Args:
        text: JSON list of tools, each bare or under `function`; None for no tools.

    Returns:
        The tools in the form of transformers and OpenAI, ``{"type": "function", "function": ...}``,
        which is also what a server is given; None for no tools.

    Raises:
        ChatFault: It is no such list.
    """
    tools = _read_list("tools", text)
    return [
        tool if "function" in tool else {"type": "function", "function": tool} for tool in tools
    ] or None


def _read_list(what: str, text: str | None) -> list[dict[str, Any]]:
    if not text:
        return []
    try:
        found = json.loads(text)
    except ValueError as error:
        raise malformed(f"its {what} are no JSON", str(error)) from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise malformed(f"its {what} are no list of objects", f"found {text!r:.80}")
    return found
