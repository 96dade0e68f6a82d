"""What a chat template writes as one token, and whether the tokenizer knows it as one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from retune.data.chats.templates import template_text

if TYPE_CHECKING:
    from retune.data.chats.tokenizers import Tokenizer

_TAG = re.compile(r"<\|[\w-]+\|>|<[a-z]+(?:_[a-z]+)+>")
"""Marks of turns as families write them: ``<|im_start|>``, ``<start_of_turn>``."""
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)


def unknown_tags(tokenizer: Tokenizer) -> dict[str, int]:
    """Find the marks of turns in a tokenizer's chat template that are no single tokens of it.

    A template that is borrowed from another model may write marks that this one never saw. They are
    then read letter by letter: it works, costs context, and no end of turn can be a stop token.

    Args:
        tokenizer: With the chat template in use.

    Returns:
        Each such mark, and how many tokens it is read as.
    """
    tags = dict.fromkeys(_TAG.findall(_COMMENT.sub("", template_text(tokenizer))))
    vocabulary = tokenizer.get_vocab()
    return {tag: len(tokenizer.tokenize(tag)) for tag in tags if tag not in vocabulary}


def tell_unknown_tags(tokenizer: Tokenizer) -> str | None:
    """Return what to say about marks that are no single tokens; None where all are.

    Args:
        tokenizer: With the chat template in use.
    """
    unknown = unknown_tags(tokenizer)
    if not unknown:
        return None
    shown = ", ".join(f"{tag} ({pieces} tokens)" for tag, pieces in unknown.items())
    return (
        f"the chat template writes {shown}, which this tokenizer does not know as single tokens. "
        "Training works, with longer texts. Better take a template that fits the base "
        "(prompt.template), or add the tokens to its tokenizer and embeddings, save both, and "
        "train them (method.trainable_tokens)."
    )


def strip_control(text: str, tokenizer: Tokenizer) -> str:
    """Return a text without the control tokens that stand in it, stripped.

    Args:
        text: Decoded tokens.
        tokenizer: Whose control tokens.
    """
    tokens = sorted(map(str, tokenizer.all_special_tokens), key=len, reverse=True)
    return re.sub("|".join(map(re.escape, tokens)), "", text).strip() if tokens else text.strip()
