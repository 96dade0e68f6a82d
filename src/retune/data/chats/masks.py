"""Loss masks: from stretches of characters to tokens, and back to text that can be looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from retune.data.chats.applying import Span
from retune.data.chats.rendering import ChatText
from retune.data.chats.tokenizing import ChatIds
from retune.data.findings import ExampleRow
from retune.data.tables import iterate_rows
from retune.recipe.sections.prompt import LossOn
from retune.records import SideRef


def mask_tokens(text: ChatText, ids: ChatIds, loss_on: LossOn) -> list[bool] | None:
    """Say which tokens of prompt and answer carry loss.

    A token belongs to a stretch that is learned when it begins there, and to one that is not when
    any of its characters does: a stretch may begin or end within a token.

    Args:
        text: With its marks.
        ids: Its tokens, with their characters where it has marks, or stretches without loss.
        loss_on: The recipe's choice.

    Returns:
        One truth value per token, prompt first; None where all of the answer carries loss, and
        nothing else, and the row says nothing of its own.
    """
    if loss_on == "answer" and text.unlearned is None:
        return None
    prompt, answer = len(ids.prompt), len(ids.answer)
    mask = [loss_on == "all"] * prompt + [True] * answer
    if text.marks is not None:
        marked = _mark([begin for begin, _ in ids.spans], text.marks)
        mask = marked if loss_on == "marked" else [*marked[:prompt], *mask[prompt:]]
    return _without(mask, text, ids)


def _without(mask: list[bool], text: ChatText, ids: ChatIds) -> list[bool]:
    silent = text.unlearned or ()
    whole = (len(text.prompt), len(text.prompt) + len(text.answer))
    if whole in silent:
        # Its tokens are known without their characters, which not every tokenizer tells.
        mask = mask[: len(ids.prompt)] + [False] * len(ids.answer)
    for begin, end in silent:
        if (begin, end) != whole:
            mask = [
                on and not (start < end and stop > begin)
                for on, (start, stop) in zip(mask, ids.spans, strict=True)
            ]
    return mask


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


def show_rows(
    chat: SideRef, decode: Callable[[Sequence[int]], str], count: int
) -> list[ExampleRow]:
    """Return the first rows of a side as the model reads them.

    Args:
        chat: A side.
        decode: Writes token ids as text, as the base's tokenizer does.
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
            (decode(ids[begin:end]), learned) for begin, end, learned in find_stretches(mask)
        )
        shown.append(ExampleRow(row_id=row["row_id"], pieces=pieces))
    return shown
