"""Marks of a borrowed template that the tokenizer cuts into pieces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from retune.data.chats.special_tokens import tell_unknown_tags, unknown_tags
from retune.data.chats.tokenizers import load_tokenizer
from tests.tiny_models import CHATML_TEMPLATE, GEMMA_TEMPLATE


def test_known_marks_are_no_news(snapshot: Callable[[str], Path]) -> None:
    """Each family's own template, and the plain one of GPT-2."""
    for family in ("llama", "qwen3", "gemma3", "gpt2", "gpt_oss"):
        assert tell_unknown_tags(load_tokenizer(snapshot(family))) is None


def test_unknown_marks_are_told_with_their_pieces(snapshot: Callable[[str], Path]) -> None:
    """As many tokens as the tokenizer reads each as; comments of a template do not count."""
    tokenizer = load_tokenizer(snapshot("llama"))
    tokenizer.chat_template = "{# <|not_written|> #}" + GEMMA_TEMPLATE
    assert unknown_tags(tokenizer) == {
        tag: len(tokenizer.tokenize(tag)) for tag in ("<start_of_turn>", "<end_of_turn>")
    }
    tokenizer.chat_template = CHATML_TEMPLATE
    note = tell_unknown_tags(tokenizer)
    assert note is not None
    assert "<|im_start|> (" in note and "method.trainable_tokens" in note
