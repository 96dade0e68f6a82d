"""Harmony, the chat format of gpt-oss: reading it, mending a missing final channel, checking it.

A message is ``<|start|>role<|channel|>name<|message|>text<|end|>``; the channel stands in messages
of the assistant alone, and the last one ends with ``<|return|>`` (a tool call with ``<|call|>``).
The parser is our own: openai-harmony fetches its vocabulary from the network on first use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from retune.errors import DataError

HARMONY_TAGS = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>")
CHANNELS = ("analysis", "commentary", "final")
_TAG = re.compile(r"<\|(start|channel|constrain|message|end|return|call)\|>")
_NO_TAG = r"(?:(?!<\|(?:start|channel|constrain|message|end|return|call)\|>).)*"
_NO_CHANNEL = re.compile(r"<\|start\|>assistant<\|message\|>")
_UNTAGGED = re.compile(
    rf"(<\|start\|>assistant<\|channel\|>analysis<\|message\|>{_NO_TAG}<\|end\|>)"
    rf"\s*({_NO_TAG})(<\|end\|>|<\|return\|>|$|(?=<\|start\|>))",
    re.DOTALL,
)
_FINAL = "<|start|>assistant<|channel|>final<|message|>"
_CLOSED_BY_END = re.compile(rf"{re.escape(_FINAL)}{_NO_TAG}<\|end\|>\Z", re.DOTALL)
_MAY_FOLLOW = {
    "": ("start",),
    "start": ("channel", "message"),
    "channel": ("constrain", "message"),
    "constrain": ("message",),
    "message": ("end", "return", "call"),
    "end": ("start",),
    "call": ("start",),
    "return": (),
}


@dataclass(frozen=True)
class _Part:
    role: str
    channel: str
    content: str
    closed_by: str


def repair_harmony(text: str) -> tuple[str, bool]:
    """Put back the final channel where a turn of the assistant has none.

    Args:
        text: A conversation, or the beginning of one.

    Returns:
        The text in which an untagged answer, ``<|start|>assistant<|message|>...`` or text after the
        analysis channel, stands in the final channel, and whether anything was changed.
    """
    mended = _NO_CHANNEL.sub(_FINAL, text)
    mended = _UNTAGGED.sub(_tag_answer, mended)
    if mended == text:
        return text, False
    if _CLOSED_BY_END.search(mended):
        mended = mended.removesuffix("<|end|>") + "<|return|>"
    return mended, True


def _tag_answer(found: re.Match[str]) -> str:
    analysis, answer, closing = found.groups()
    if not answer.strip():
        return found.group()
    at_end = found.end() == len(found.string)
    return f"{analysis}{_FINAL}{answer}{closing or ('<|return|>' if at_end else '<|end|>')}"


def check_harmony(text: str) -> str | None:
    """Look whether the tags of a conversation fit together.

    Args:
        text: The whole conversation.

    Returns:
        What does not fit, the first of it; None when all does.
    """
    try:
        parts = list(_read_parts(text))
    except DataError as error:
        return error.message
    for place, part in enumerate(parts):
        if part.role == "assistant" and not part.channel:
            return "a message of the assistant has no channel"
        if part.closed_by == "return" and place < len(parts) - 1:
            return "<|return|> stands before the last message"
    return None if parts else "no message (expected <|start|>role<|message|>text<|end|>)"


def parse_harmony(text: str) -> list[dict[str, Any]]:
    """Read a conversation, with a missing final channel put back.

    Args:
        text: The whole conversation with its tags.

    Returns:
        The turns in order, with role and content; analysis and final channel of an answer are one
        turn, with the former as its thinking. The last turn of the assistant has a key `repaired`
        when a final channel was put back anywhere.

    Raises:
        DataError: The tags do not fit together.
    """
    mended, repaired = repair_harmony(text)
    fault = check_harmony(mended)
    if fault:
        raise DataError(f"The harmony tags do not fit together: {fault}.")
    turns: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for part in _read_parts(mended):
        if part.channel == "analysis":
            thoughts.append(part.content)
            continue
        turn: dict[str, Any] = {"role": part.role, "content": part.content}
        if thoughts and part.role == "assistant":
            turn["thinking"] = "\n".join(thoughts)
        turns.append(turn)
        thoughts = []
    if thoughts:
        raise DataError(
            "The harmony tags do not fit together: the analysis channel is followed by no answer."
        )
    if repaired:
        next(turn for turn in reversed(turns) if turn["role"] == "assistant")["repaired"] = True
    return turns


def _read_parts(text: str) -> Iterator[_Part]:
    """Yield the messages, or raise `DataError` at the first tag out of order."""
    pieces = _TAG.split(text)
    if pieces[0].strip():
        raise DataError(f"{pieces[0].strip()!r:.40} stands before the first <|start|>")
    last, role, channel, content = "", "", "", ""
    for tag, written in zip(pieces[1::2], pieces[2::2], strict=True):
        if tag not in _MAY_FOLLOW[last]:
            after = f"after <|{last}|>" if last else "at the beginning"
            raise DataError(f"<|{tag}|> stands {after}, expected {_expected(last)}")
        if tag == "start":
            role, channel, content = _role_of(written), "", ""
        elif tag == "channel":
            channel = _channel_of(written)
        elif tag == "message":
            content = written
        elif tag in ("end", "return", "call"):
            if written.strip():
                raise DataError(f"{written.strip()!r:.40} stands outside of a message")
            yield _Part(role, channel, content, tag)
        last = tag
    if last not in ("", "end", "return", "call"):
        raise DataError(f"the last message is not closed (it ends after <|{last}|>)")


def _expected(last: str) -> str:
    return " or ".join(f"<|{tag}|>" for tag in _MAY_FOLLOW[last]) or "nothing more"


def _role_of(header: str) -> str:
    # A header may name who is meant: ``functions.search to=assistant``.
    role = header.split(" ", 1)[0].strip()
    if not role:
        raise DataError("<|start|> is followed by no role")
    return role


def _channel_of(header: str) -> str:
    channel = (header.split() or [""])[0]
    if channel not in CHANNELS:
        raise DataError(f"the unknown channel {channel!r}, expected {', '.join(CHANNELS)}")
    return channel
