"""Chats: loss on the answer and its end token alone, whatever the template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retune.data.chat import build_messages, render_chat, render_prompt
from retune.data.tables import read_rows
from retune.data.tokenizers import end_token_ids, load_tokenizer
from retune.errors import DataError
from retune.modeling.snapshots import locate_base
from retune.recipe.sections import PromptConfig
from retune.records import BaseRef, ChatRef
from tests.tiny_models import GEMMA_TEMPLATE

Snapshot = Callable[[str], Path]
# What a family writes as the end of an answer.
ENDS = {
    "llama": "<|end|>",
    "gpt2": "<|end|>",
    "gemma3": "<end_of_turn>",
    "qwen3": "<|im_end|>",
}
USER = [{"role": "user", "content": "Quantos?"}]


@pytest.fixture(params=ENDS)
def family(request: pytest.FixtureRequest) -> str:
    """The embedded template, the plain one (GPT-2), Gemma's kind, and ChatML with a thought."""
    return str(request.param)


@pytest.fixture
def family_chats(family: str, snapshot: Snapshot, format_for: Callable[..., ChatRef]) -> ChatRef:
    """The shipped rows as a family's chats."""
    return format_for(locate_base(str(snapshot(family)), None), system="Responda em SQL.")


def test_loss_falls_on_the_answer_and_its_end(
    family: str, snapshot: Snapshot, family_chats: ChatRef
) -> None:
    """On every real row the learned ids read as the answer and one end token, and nothing else."""
    tokenizer = load_tokenizer(snapshot(family))
    for row in read_rows(family_chats.folder / "train" / "rows.parquet"):
        assert tokenizer.decode(row["answer_ids"]) == row["answer"] + ENDS[family]


def test_the_prompt_is_all_before_the_answer(
    family: str, snapshot: Snapshot, family_chats: ChatRef
) -> None:
    """Prompt and answer together are the template's own chat up to the end token."""
    tokenizer = load_tokenizer(snapshot(family))
    databases = read_rows(family_chats.folder / "train" / "databases.parquet")
    schemas = {one["db_id"]: one["schema"] for one in databases}
    for row in read_rows(family_chats.folder / "train" / "rows.parquet")[:5]:
        chat = [
            {"role": "system", "content": "Responda em SQL."},
            {"role": "user", "content": f"{schemas[row['db_id']]}\n{row['question']}"},
            {"role": "assistant", "content": row["answer"]},
        ]
        whole = tokenizer.apply_chat_template(chat, tokenize=False)
        assert whole.startswith(tokenizer.decode(row["prompt_ids"] + row["answer_ids"]))
        assert tokenizer.decode(row["prompt_ids"]) == row["prompt"]


def test_a_prompt_never_holds_its_answer(family_chats: ChatRef) -> None:
    """The model would learn to copy."""
    for side in ("train", "validation", "test"):
        for row in read_rows(family_chats.folder / side / "rows.parquet"):
            assert row["answer"] not in row["prompt"]


def test_every_answer_ends_with_an_end_token(
    family: str, snapshot: Snapshot, family_chats: ChatRef
) -> None:
    """Exactly one, in the last place: where generation stops is where learning stopped."""
    ends = end_token_ids(load_tokenizer(snapshot(family)), snapshot(family))
    for row in read_rows(family_chats.folder / "test" / "rows.parquet"):
        assert [token in ends for token in row["answer_ids"]].index(True) == len(
            row["answer_ids"]
        ) - 1


def test_an_empty_thought_is_read_and_not_learned(snapshot: Snapshot) -> None:
    """Qwen 3 writes one before each answer; scored as part of the answer it would be no SQL."""
    tokenizer = load_tokenizer(snapshot("qwen3"))
    text = render_chat(tokenizer, USER, "think", ["<|im_end|>"])
    assert text.prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert text.answer == "think<|im_end|>"
    assert render_prompt(tokenizer, USER) == text.prompt


def test_counts_are_sums_over_rows(chats: ChatRef) -> None:
    """Tokens are counted over the training side, the longest row over all."""
    rows = read_rows(chats.folder / "train" / "rows.parquet")
    answers = sum(len(row["answer_ids"]) for row in rows)
    assert chats.answer_tokens == answers
    assert chats.train_tokens == answers + sum(len(row["prompt_ids"]) for row in rows)
    assert chats.train + chats.validation + chats.test == 40


def test_a_side_holds_its_own_databases_only(chats: ChatRef) -> None:
    """A new training row must leave the test side's digest, and so its scores, as they are."""
    for side in ("train", "test"):
        asked = {row["db_id"] for row in read_rows(chats.folder / side / "rows.parquet")}
        held = {row["db_id"] for row in read_rows(chats.folder / side / "databases.parquet")}
        assert held == asked


def test_a_long_row_is_refused(base: BaseRef, format_for: Callable[..., ChatRef]) -> None:
    """Nothing is cut silently; the message names the longest rows and the setting."""
    with pytest.raises(DataError, match=r"of 40 rows are longer than prompt.max_length = 16"):
        format_for(base, max_length=16)


def with_template(snapshot: Snapshot, template: str) -> Any:
    tokenizer = load_tokenizer(snapshot("llama"))
    tokenizer.chat_template = template
    return tokenizer


def test_a_template_that_drops_the_answer_is_refused(snapshot: Snapshot) -> None:
    """Nothing could be learned from it."""
    dropping = "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}"
    tokenizer = with_template(snapshot, dropping + "{% endfor %}")
    with pytest.raises(DataError, match="drops the answer"):
        render_chat(tokenizer, USER, "SELECT 1", ["<|end|>"])


def test_a_template_that_changes_its_prompt_is_refused(snapshot: Snapshot) -> None:
    """What is learned would not follow on what is read in generation."""
    changing = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(DataError, match="does not begin with its own generation prompt"):
        render_chat(with_template(snapshot, changing), USER, "SELECT 1", ["<|end|>"])


def test_what_follows_the_end_token_is_dropped(snapshot: Snapshot) -> None:
    """Gemma's template writes a newline there, which a model that stops never sees."""
    tokenizer = with_template(snapshot, GEMMA_TEMPLATE)
    text = render_chat(tokenizer, USER, "SELECT 1", ["<|end|>", "<end_of_turn>"])
    assert text.answer == "SELECT 1<end_of_turn>"


def test_a_template_without_end_token_gets_one(snapshot: Snapshot) -> None:
    """Otherwise the model would never learn to stop."""
    bare = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    bare += "{% if add_generation_prompt %}assistant: {% endif %}"
    text = render_chat(with_template(snapshot, bare), USER, "SELECT 1", ["<|end|>"])
    assert (text.prompt, text.answer) == ("user: Quantos?assistant: ", "SELECT 1<|end|>")


def test_an_end_token_inside_an_answer_is_refused(base: BaseRef, snapshot: Snapshot) -> None:
    """A model that learned the row would stop in its middle."""
    from retune.data.chat import _Encoder

    encoder = _Encoder(load_tokenizer(base.folder), base.folder, PromptConfig(), {})
    row = {"row_id": "r1", "group": "g", "db_id": None, "question": "Quantos?"}
    with pytest.raises(DataError, match=r"row r1: its answer holds an end token"):
        encoder.encode([{**row, "answer": "SELECT '<|end|>'"}])


def test_braces_in_a_question_are_text() -> None:
    """Only the template is filled in, never what was filled into it."""
    messages = build_messages(PromptConfig(), question="{schema} {0}", schema="S")
    assert messages == [{"role": "user", "content": "S\n{schema} {0}"}]
