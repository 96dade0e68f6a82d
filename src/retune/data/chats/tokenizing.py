"""Chats as token ids, cut between prompt and answer.

A prompt has the ids that a server asks with. The chat is tokenized as a whole, which is what a
model reads and writes; where its ids begin with those of the prompt, the rest are the answer's.
Where a token would reach over the seam, no server could ever ask for it, and the answer is
tokenized apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from retune.data.chats.applying import Span
from retune.data.chats.rendering import ChatText
from retune.data.chats.tokenizers import Tokenizer


class ChatIds(NamedTuple):
    """One chat as token ids.

    Attributes:
        prompt: What is read.
        answer: What is to be written.
        spans: Characters of each token of both together; empty where they were not asked for.
        apart: Whether the answer was tokenized apart.
    """

    prompt: list[int]
    answer: list[int]
    spans: list[Span]
    apart: bool


def encode_chats(
    tokenizer: Tokenizer, texts: Sequence[ChatText], *, offsets: bool = False
) -> list[ChatIds]:
    """Tokenize chats.

    Args:
        tokenizer: Any.
        texts: Many at once.
        offsets: Whether the characters of each token are wanted.

    Returns:
        Their ids, in their order.
    """
    wholes = tokenize(tokenizer, [text.prompt + text.answer for text in texts], offsets=offsets)
    prompts = [
        list(text.prompt_ids)
        if text.prompt_ids is not None
        else tokenize(tokenizer, [text.prompt])[0][0]
        for text in texts
    ]
    apart = [
        place
        for place, (prompt, (ids, _)) in enumerate(zip(prompts, wholes, strict=True))
        if ids[: len(prompt)] != prompt or len(ids) == len(prompt)
    ]
    rest = dict(
        zip(apart, _encode_apart(tokenizer, [texts[at] for at in apart], offsets), strict=True)
    )
    found = []
    for place, (prompt, (ids, spans)) in enumerate(zip(prompts, wholes, strict=True)):
        if place in rest:
            answer, spans = rest[place]
            found.append(ChatIds(prompt, answer, spans, True))
        else:
            found.append(ChatIds(prompt, ids[len(prompt) :], spans, False))
    return found


def _encode_apart(
    tokenizer: Tokenizer, texts: Sequence[ChatText], offsets: bool
) -> Iterator[tuple[list[int], list[Span]]]:
    anchor = _anchor(tokenizer)
    prompts = tokenize(tokenizer, [text.prompt for text in texts], offsets=offsets)
    answers = tokenize(tokenizer, [anchor + text.answer for text in texts], offsets=offsets)
    for text, (_, read), (ids, written) in zip(texts, prompts, answers, strict=True):
        skipped = 1 if anchor else 0
        moved = len(text.prompt) - len(anchor)
        spans = [(begin + moved, end + moved) for begin, end in written[skipped:]]
        yield ids[skipped:], [*read, *spans]


def _anchor(tokenizer: Tokenizer) -> str:
    """Return a control token to tokenize an answer behind.

    Tokenizers of SentencePiece's kind put a blank before a text that begins on its own.
    """
    known = tokenizer.added_tokens_decoder.values()
    return next((str(one) for one in known if one.special and not one.rstrip), "")


def tokenize(
    tokenizer: Tokenizer, texts: list[str], *, offsets: bool = False
) -> list[tuple[list[int], list[Span]]]:
    """Tokenize rendered texts, which have their control tokens already.

    Args:
        tokenizer: Any.
        texts: Many at once.
        offsets: Whether the characters of each token are wanted.

    Returns:
        Ids, and characters of each token, per text.
    """
    if not texts:
        return []
    if not tokenizer.is_fast:
        found = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=offsets)
        spans = found["offset_mapping"] if offsets else [[]] * len(texts)
        return list(zip(found["input_ids"], spans, strict=True))
    # transformers' own call copies five columns per text in Python; it is five times as slow.
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    encode = backend.encode_batch if offsets else backend.encode_batch_fast
    encoded = encode(texts, add_special_tokens=False)
    return [(one.ids, one.offsets if offsets else []) for one in encoded]
