"""Thoughts are counted apart from answers, whichever way a family writes them."""

from __future__ import annotations

import pytest

from retune.data.chats.tokenizers import Tokenizer, load_tokenizer
from retune.inference.thinking import count_thinking
from tests.tiny_models import write_snapshot

CHANNELS = "<|channel|>analysis<|message|>conta linhas<|end|><|start|>assistant<|channel|>final"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """That of a tiny gpt-oss: its channels are single tokens."""
    return load_tokenizer(write_snapshot(tmp_path_factory.mktemp("gpt_oss"), "gpt_oss"))


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize(
    ("thought", "answer"),
    [
        (CHANNELS + "<|message|>", "SELECT nome FROM cliente"),
        ("<think>conta linhas</think>\n\n", "SELECT nome FROM cliente"),
        # Of a prompt that opened the thought.
        ("conta linhas\n</think>\n\n", "SELECT nome"),
        ("", "SELECT nome FROM cliente"),
        (CHANNELS.partition("<|end|>")[0], ""),
        ("<think>conta linhas e linhas", ""),
    ],
)
def test_what_stands_before_the_answer_is_thought(
    tokenizer: Tokenizer, thought: str, answer: str
) -> None:
    """Tags and channels among it; all of it where the thought has not ended, else nothing more."""
    before = ids_of(tokenizer, thought)
    assert count_thinking(tokenizer, before + ids_of(tokenizer, answer)) == len(before)
