"""How many of an answer's tokens are the thought before it, and its tags."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from retune.data.chats.thoughts import holds_thought
from retune.data.chats.tokenizers import Tokenizer
from retune.inference.generation import answer_text


def count_thinking(tokenizer: Tokenizer, ids: Sequence[int]) -> int:
    """Count the tokens before the first one of what a user gets to see.

    Args:
        tokenizer: The model's own.
        ids: New tokens without an end token.

    Returns:
        Tokens of the thought with its tags and channels; all where it did not end, 0 where there
        is none.
    """
    if not _holds(tokenizer, ids):
        return 0
    # From some token on the answer has begun, and it has for every longer part of the text.
    return bisect_left(range(len(ids)), True, key=lambda at: _has_begun(tokenizer, ids[: at + 1]))


def _has_begun(tokenizer: Tokenizer, ids: Sequence[int]) -> bool:
    # Where the prompt opened the thought, its text looks like an answer until it is closed.
    return _holds(tokenizer, ids) and bool(answer_text(tokenizer, ids))


def _holds(tokenizer: Tokenizer, ids: Sequence[int]) -> bool:
    return holds_thought(str(tokenizer.decode(ids, skip_special_tokens=False)))
