"""Whether a chat template wrote everything that it was given.

Templates pass over what they do not know: a role, the tools, the calls of a turn. A model that is
trained on such a chat learns an answer to something that it never read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from retune.data.chats.faults import ChatFault, malformed
from retune.data.chats.messages import Call, Message
from retune.data.chats.thoughts import TAGS


def check_read(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, text: str
) -> None:
    """See that a prompt holds its messages and tools.

    Args:
        messages: The messages before the answer.
        tools: What the model may call.
        text: The prompt.

    Raises:
        ChatFault: Something of them is not in the prompt.
    """
    for tool in tools or ():
        name = tool["function"].get("name")
        if not isinstance(name, str) or name not in text:
            raise tools_dropped(f"{name!r:.60} is not in the prompt")
    for place, message in enumerate(messages, 1):
        if not holds(text, _last_words(message)):
            raise malformed(
                f"the chat template drops a turn of the role {message['role']}; use a template "
                "that writes it, or delete the turn",
                f"turn {place}: {message['content']!r:.60}",
            )
        check_calls(message.get("calls", ()), text)


def tools_dropped(detail: str = "") -> ChatFault:
    """Return the fault of a row whose tools the template does not write."""
    return malformed(
        "the chat template drops the tools; use a template that knows tools, or leave them out",
        detail,
    )


def check_calls(calls: Sequence[Call], text: str) -> None:
    """See that a text holds calls of tools, with name and arguments.

    Args:
        calls: The calls.
        text: What the template wrote.

    Raises:
        ChatFault: A name or an argument is missing.
    """
    for call in calls:
        for what, value in (("name", call["name"]), *_leaves("arguments", call["arguments"])):
            if not holds(text, value):
                raise malformed(
                    "the chat template drops the calls of tools; use a template that knows tools",
                    f"{what} of {call['name']!r:.60} is not in the chat: {value!r:.60}",
                )


def holds(text: str, value: Any) -> bool:
    """Say whether a text holds a value, as it is or as JSON."""
    if isinstance(value, str):
        # White space at the ends may be cut off, and ends of lines within JSON are written so.
        forms = [
            value.strip(),
            *(json.dumps(value.strip(), ensure_ascii=a)[1:-1] for a in (False, True)),
        ]
    else:
        forms = [json.dumps(value), str(value)]
    return any(form in text for form in forms)


def _leaves(what: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield "an argument", key
            yield from _leaves(f"{what}.{key}", inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(what, inner)
    else:
        yield what, value


def _last_words(message: Message) -> str:
    """Return what of a turn a template may not drop; thoughts of earlier turns it may."""
    content = str(message["content"])
    if message["role"] == "assistant":
        for _, end in TAGS:
            content = content.rpartition(end)[2]
    return content
