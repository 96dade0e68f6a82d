"""Thoughts before an answer: taking them out of texts that bring them along in tags.

Rows of reasoning sets hold ``<think>...</think>`` within the answer. A chat template that writes
thoughts is given them apart, in the key that it reads, and writes its own tags; a template that
writes none gets the whole text as the answer. What a model wrote is judged without its thoughts.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from retune.data.chats.faults import malformed

TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<scratchpad>", "</scratchpad>"),
)
"""How families and sets of rows write a thought."""

_SOLUTION = re.compile(r"<\|begin_of_solution\|>(.*)<\|end_of_solution\|>", re.DOTALL)
_ANY_CASE = re.compile(r"<\s*(/?)\s*(think|thinking|thought|reasoning)\s*>", re.IGNORECASE)
_OPEN_AT_END = re.compile(rf"({'|'.join(re.escape(begin) for begin, _ in TAGS)})\s*\Z")
_EMPTY = "|".join(re.escape(begin) + r"\s*" + re.escape(end) for begin, end in TAGS)
_EMPTY_AT_END = re.compile(rf"(?:{_EMPTY})\s*\Z")
_HARMONY_ANSWER = re.compile(
    r".*<\|channel\|>final[^<]*<\|message\|>(.*?)(?:<\|(?:end|return|start|call)\|>.*)?\Z",
    re.DOTALL,
)


class Thought(NamedTuple):
    """A text taken apart.

    Attributes:
        thinking: What stood in the tags, without white space around; None where there was nothing.
        answer: What follows.
    """

    thinking: str | None
    answer: str


def split_answer(text: str) -> Thought:
    """Take the thought out of a row's answer.

    Args:
        text: The answer as the row has it.

    Returns:
        Thought and answer; the text as it is where no thought stands at its beginning.

    Raises:
        ChatFault: A thought is opened and not closed, closed twice, or followed by nothing.
    """
    text = _in_one_case(text)
    begun = text.lstrip()
    for begin, end in TAGS:
        opened = begun.startswith(begin)
        # Models whose prompt opens the thought write its end alone, at one end of a line; so do
        # rows that they wrote. Within a line it is a word about the tag.
        if not opened and (begin in text or not _ends_line(text, end)):
            continue
        if end not in begun:
            raise malformed(
                f"its answer opens a thought ({begin}) and does not close it ({end}), so that "
                "thought and answer cannot be told apart; mend or delete the row"
            )
        thinking, _, answer = begun.removeprefix(begin if opened else "").partition(end)
        return Thought(thinking.strip() or None, _check_answer(answer, begin, end))
    return Thought(None, text)


def _ends_line(text: str, tag: str) -> bool:
    tag = re.escape(tag)
    return re.search(rf"(?:^|\n)[ \t]*{tag}|{tag}[ \t]*\n", text) is not None


def _check_answer(answer: str, begin: str, end: str) -> str:
    if begin in answer or end in answer:
        raise malformed(
            f"its answer holds {begin} or {end} again after its thought, so that thought and "
            "answer cannot be told apart; mend or delete the row"
        )
    return _unwrapped(answer)


def _unwrapped(answer: str) -> str:
    solution = _SOLUTION.fullmatch(answer.strip())
    return (solution[1] if solution else answer).strip()


def _in_one_case(text: str) -> str:
    """Write the tags of a text that begins with one, such as `<Think>`, as families do."""
    if _ANY_CASE.match(text.lstrip()) is None:
        return text
    return _ANY_CASE.sub(lambda tag: f"<{tag[1]}{tag[2].lower()}>", text)


def holds_thought(text: str) -> bool:
    """Say whether a model's text has a thought before its answer, or channels."""
    return text != without_thought(text)


def without_thought(text: str) -> str:
    """Return what a model answered, without the thought that it wrote before.

    Args:
        text: Decoded new tokens.

    Returns:
        What follows the thought; empty where the thought was not ended, since no answer came. A
        text without a thought at its beginning is returned as it is.
    """
    if text.lstrip().startswith("<|channel|>"):
        final = _HARMONY_ANSWER.match(text)
        return final[1].strip() if final else ""
    text = _in_one_case(text)
    begun = text.lstrip()
    for begin, end in TAGS:
        if begun.startswith(begin) or (begin not in text and _ends_line(text, end)):
            _, closed, answer = text.partition(end)
            return _unwrapped(answer) if closed else ""
    return text


def find_open_thought(prompt: str) -> int | None:
    """Return where a prompt opens the thought that it ends with; None where it does not."""
    found = _OPEN_AT_END.search(prompt)
    return found.start() if found else None


def find_last_thought(prompt: str) -> int | None:
    """Return where a prompt begins the thought that it ends with, open or empty; else None."""
    found = _OPEN_AT_END.search(prompt) or _EMPTY_AT_END.search(prompt)
    return found.start() if found else None


def is_empty_thought(text: str) -> bool:
    """Say whether a text is a thought in which nothing stands."""
    return _EMPTY_AT_END.fullmatch(text.strip()) is not None


def closes_thought(prompt: str) -> bool:
    """Say whether a prompt ends with a thought that it closes itself."""
    return prompt.rstrip().endswith(tuple(end for _, end in TAGS))


def closing_tag(begin: str) -> str:
    """Return the tag that closes a thought."""
    return dict(TAGS)[begin.strip()]
