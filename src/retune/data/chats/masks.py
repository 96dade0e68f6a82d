"""Loss masks: from stretches of characters to tokens, and back to text that can be looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from retune.data.chats.rendering import ChatText, Span
from retune.data.findings import ExampleRow
from retune.data.tables import iterate_rows
from retune.data.tokenizers import Tokenizer
from retune.records import SideRef


def mask_tokens(
    text: ChatText,
    prompt_offsets: Sequence[Span],
    answer_offsets: Sequence[Span],
    *,
    whole_answer: bool,
) -> list[bool]:
    """Say which tokens of prompt and answer carry loss.

    A token belongs to a stretch when it begins there: prompt and answer are tokenized apart, and a
    stretch may begin or end within a token of the prompt.

    Args:
        text: With its marks.
        prompt_offsets: Characters of each token of the prompt.
        answer_offsets: Characters of each token of the answer, counted from the answer's first.
        whole_answer: Whether every token of the answer carries loss, whatever the marks say.

    Returns:
        One truth value per token, prompt first.
    """
    starts = [start for start, _ in prompt_offsets]
    prompt = _mark(starts, text.marks or ())
    if whole_answer:
        return [*prompt, *([True] * len(answer_offsets))]
    begin = len(text.prompt)
    return [*prompt, *_mark([begin + start for start, _ in answer_offsets], text.marks or ())]


def _mark(starts: Sequence[int], marks: Sequence[Span]) -> list[bool]:
    mask, left = [], sorted(marks, reverse=True)
    for start in starts:  # both are in order, so each mark is passed once
        while left and left[-1][1] <= start:
            left.pop()
        mask.append(bool(left) and left[-1][0] <= start)
    return mask


def find_stretches(mask: Sequence[bool]) -> Iterator[tuple[int, int, bool]]:
    """Yield the stretches of equal values: first place, place behind the last, value."""
    begin = 0
    for place in range(1, len(mask) + 1):
        if place == len(mask) or mask[place] != mask[begin]:
            yield begin, place, bool(mask[begin])
            begin = place


def show_rows(chat: SideRef, tokenizer: Tokenizer, count: int) -> list[ExampleRow]:
    """Return the first rows of a side as the model reads them.

    Args:
        chat: A side.
        tokenizer: Of the base.
        count: How many rows.

    Returns:
        Rows whose decoded stretches say whether they carry loss.
    """
    columns = ["row_id", "prompt_ids", "answer_ids", "loss_mask"]
    shown = []
    for row in islice(iterate_rows(chat.folder / "rows.parquet", columns), count):
        ids = [*row["prompt_ids"], *row["answer_ids"]]
        mask = row["loss_mask"]
        if mask is None:
            mask = [False] * len(row["prompt_ids"]) + [True] * len(row["answer_ids"])
        pieces = tuple(
            (str(tokenizer.decode(ids[begin:end])), learned)
            for begin, end, learned in find_stretches(mask)
        )
        shown.append(ExampleRow(row_id=row["row_id"], pieces=pieces))
    return shown
