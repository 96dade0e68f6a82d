"""Where the turns of a written chat stand, for templates without generation marks.

The chat is written again up to each turn: what the model continues is the turn's prompt, and what
follows there, up to the end token, is the turn. That is held against the whole chat, letter by
letter, on every row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from retune.data.chats.applying import ChatTemplate, Span, Tools
from retune.data.chats.faults import ChatFault, malformed
from retune.data.chats.messages import Message
from retune.data.chats.thoughts import TAGS, find_last_thought, is_empty_thought


class TurnFinder:
    """Finds turns in the chats that a template writes.

    Args:
        template: What writes the chats.
        end_tokens: Texts of the tokens that end a turn.
        lead: What the template writes between its prompt and an answer.
    """

    def __init__(self, template: ChatTemplate, end_tokens: Sequence[str], lead: str) -> None:
        self._template, self._lead = template, lead
        self._ends = re.compile("|".join(map(re.escape, end_tokens)))

    def find(self, messages: Sequence[Message], whole: str, tools: Tools = None) -> dict[int, Span]:
        """Find the turns of the assistant before the answer.

        Args:
            messages: The messages before the answer.
            whole: The chat, answer included.
            tools: What the model may call.

        Returns:
            Stretches of characters by place in `messages`, end token included.

        Raises:
            ChatFault: A turn is not found where the template would have the model write it.
        """
        return {
            place: self._find_turn(messages[: place + 1], whole, tools)
            for place, message in enumerate(messages)
            if message["role"] == "assistant"
        }

    def _find_turn(self, messages: Sequence[Message], whole: str, tools: Tools) -> Span:
        prompt = self._template.write(messages[:-1], prompt=True, tools=tools)
        begin = self._find_begin(prompt, whole, messages)
        done = self._template.write(messages, tools=tools)
        written = done[begin:] if done[:begin] == whole[:begin] else ""
        # A template may write an empty thought in a last turn alone.
        for body in (written, written.removeprefix(self._lead)):
            if body and whole.startswith(body, begin):
                found = list(self._ends.finditer(whole, begin, begin + len(body)))
                return begin, found[-1].end() if found else begin + len(body.rstrip())
        # Or end an earlier turn with another token, or drop its thought.
        content = _told(messages[-1])
        at = whole.find(content, begin)
        closed = re.compile(rf"\s*(?:{self._ends.pattern})").match(whole, at + len(content))
        if not content or at < 0 or not closed or not self._is_lead(whole[begin:at]):
            raise _not_found(messages)
        return begin, closed.end()

    def _find_begin(self, prompt: str, whole: str, messages: Sequence[Message]) -> int:
        if whole.startswith(prompt):
            return len(prompt)
        # A prompt may hold a thought, which the template does not write in earlier turns.
        opened = find_last_thought(prompt)
        if opened is None or not whole.startswith(prompt[:opened]):
            raise _not_found(messages)
        return opened

    def _is_lead(self, text: str) -> bool:
        return text.strip() in ("", self._lead.strip()) or is_empty_thought(text)

    def find_other(self, messages: Sequence[Message], whole: str, tools: Tools = None) -> Span:
        """Find a turn that is not the assistant's.

        Args:
            messages: The messages up to the turn.
            whole: The chat.
            tools: What the model may call.

        Returns:
            The turn's content.

        Raises:
            ChatFault: The content stands more than once, and nothing says which one it is.
        """
        content = _told(messages[-1])
        before = self._template.write(messages[:-1], tools=tools) if len(messages) > 1 else ""
        known = whole.startswith(before)
        at = whole.find(content, len(before) if known else 0)
        if at < 0 or (not known and whole.count(content) > 1):
            raise _not_found(messages)
        return at, at + len(content)


def _told(message: Message) -> str:
    content = str(message["content"])
    for _, end in TAGS:
        content = content.rpartition(end)[2]
    return content.strip()


def _not_found(messages: Sequence[Message]) -> ChatFault:
    return malformed(
        "where its earlier turns stand cannot be told for this chat template, since it writes them "
        "otherwise than it has a model write them; set prompt.loss_on: answer, or put generation "
        "marks into a copy of the template",
        f"turn {len(messages)}: {messages[-1]['content']!r:.60}",
    )
