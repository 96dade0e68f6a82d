"""The keys in which a chat template reads thoughts and calls.

Templates agree on `role` and `content` alone. A thought is read as `reasoning_content` (Qwen, GLM),
`thinking` (gpt-oss) or `reasoning`; the arguments of a call as an object, which transformers
documents, or as JSON text (DeepSeek); some ask for ids of calls (Mistral).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from retune.data.chats.messages import Call, Message

THINKING_KEYS = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True)
class TurnForm:
    """How messages are handed to a template.

    Attributes:
        thinking_key: Where it reads thoughts.
        arguments_as_text: Whether it reads arguments as JSON text.
        ids: Whether it asks for ids of calls.
        without_content: Whether a turn that only calls has no content at all.
    """

    thinking_key: str | None = None
    arguments_as_text: bool = False
    ids: bool = False
    without_content: bool = False

    def write(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Return messages in this form."""
        written: list[dict[str, Any]] = []
        waiting: list[str] = []
        number = 0
        for message in messages:
            kept: tuple[str, ...] = ("role", "content", "name")
            turn: dict[str, Any] = {key: message[key] for key in kept if key in message}
            if self.thinking_key and message.get("thinking"):
                turn[self.thinking_key] = message["thinking"]
            if message.get("calls"):
                waiting = [f"call{number + at:05d}" for at in range(len(message["calls"]))]
                number += len(waiting)
                turn["tool_calls"] = [
                    self._write_call(call, name)
                    for call, name in zip(message["calls"], waiting, strict=True)
                ]
                if self.without_content and not turn["content"]:
                    del turn["content"]
            elif self.ids and message["role"] == "tool" and waiting:
                turn["tool_call_id"] = waiting.pop(0)
            written.append(turn)
        return written

    def _write_call(self, call: Call, name: str) -> dict[str, Any]:
        arguments = call["arguments"]
        if self.arguments_as_text:
            arguments = json.dumps(arguments, ensure_ascii=False)
        function = {"name": call["name"], "arguments": arguments}
        return {**({"id": name} if self.ids else {}), "type": "function", "function": function}
