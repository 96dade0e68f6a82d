"""Cutting a text that is longer than a model's context into windows, each token scored once.

A window is ``(context, scored)``: token ids that are only read, and those whose loss counts. Two
published definitions, which differ in what the first token and the last window are given:

- `strided_windows`: the loop of the transformers documentation (docs/source/en/perplexity.md).
  Windows begin at multiples of the stride; the text's first token has no context and is not scored.
- `rolling_windows`: get_rolling_token_windows of EleutherAI/lm-evaluation-harness. A prefix token
  (beginning or end of text) stands before the text, so that every token is scored; the last window
  is as long as the others.

A smaller stride gives each token more context and so a lower, slower figure: figures of different
strides or definitions are not comparable.
"""

from __future__ import annotations

from collections.abc import Sequence

from retune.errors import ScoringError

Window = tuple[list[int], list[int]]
"""Token ids of ``(context, scored)``; no context is empty, and neither is what is scored."""


def strided_windows(ids: Sequence[int], *, max_length: int, stride: int) -> list[Window]:
    """Cut a text as the transformers documentation does.

    Without overlap (`stride` equal to `max_length`) the first token of each window has no context
    and is not scored.

    Args:
        ids: The text's tokens.
        max_length: Most tokens in a window, context included.
        stride: How far the next window begins behind the last, at most `max_length`.

    Returns:
        The windows in order; none for a text of fewer than two tokens.

    Raises:
        ScoringError: The stride is not between 1 and `max_length`, or `max_length` below 2.
    """
    if not 1 <= stride <= max_length or max_length < 2:
        raise ScoringError(
            f"windows of {max_length} tokens with stride {stride}: expected windows of at least 2 "
            "tokens and a stride from 1 to the window's length."
        )
    windows: list[Window] = []
    scored_until = 0
    for begin in range(0, len(ids), stride):
        end = min(begin + max_length, len(ids))
        first = max(scored_until, begin + 1)
        if first < end:
            windows.append((list(ids[begin:first]), list(ids[first:end])))
        scored_until = end
        if end == len(ids):
            break
    return windows


def rolling_windows(
    ids: Sequence[int], *, max_length: int, prefix_id: int, context_length: int = 1
) -> list[Window]:
    """Cut a text as lm-evaluation-harness does, every token scored.

    A window may hold one token more than `max_length`: the last is only predicted, never read.

    Args:
        ids: The text's tokens.
        max_length: Most tokens that the model reads at a time.
        prefix_id: What the first token is predicted from.
        context_length: Tokens that a later window reads before the first that it scores.

    Returns:
        The windows in order; none for an empty text.

    Raises:
        ScoringError: The context is not between 1 and `max_length`.
    """
    if not 1 <= context_length <= max_length:
        raise ScoringError(
            f"windows of {max_length} tokens with a context of {context_length}: expected a "
            "context from 1 to the window's length."
        )
    text = [prefix_id, *ids]
    scored_until = min(max_length + 1, len(text))
    windows: list[Window] = [(text[:1], text[1:scored_until])] if ids else []
    while scored_until < len(text):
        end = min(scored_until + max_length - context_length + 1, len(text))
        windows.append((text[end - max_length - 1 : scored_until], text[scored_until:end]))
        scored_until = end
    return windows
