"""Shipped rows as chats of several families: loss on the answer and its end token alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from retune.data.chats.tokenizers import end_token_ids, load_tokenizer
from retune.data.tables import read_rows
from retune.modeling.snapshots import locate_base
from retune.records import ChatRef

Snapshot = Callable[[str], Path]
# What a family writes as the end of an answer.
LEADS = {"qwen3": "<think>\n\n</think>\n\n", "gpt_oss": "<|channel|>final<|message|>"}
"""What a family writes between its generation prompt and an answer."""
ENDS = {
    "llama": "<|end|>",
    "gpt2": "<|end|>",
    "gemma3": "<end_of_turn>",
    "qwen3": "<|im_end|>",
    "gpt_oss": "<|return|>",
}


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
    """On every real row the learned ids read as what the model has to write, and nothing else."""
    tokenizer = load_tokenizer(snapshot(family))
    for row in read_rows(family_chats.folder / "train" / "rows.parquet"):
        expected = LEADS.get(family, "") + row["answer"] + ENDS[family]
        assert tokenizer.decode(row["answer_ids"]) == expected


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
        served = tokenizer.apply_chat_template(chat[:-1], add_generation_prompt=True)
        assert served["input_ids"] == row["prompt_ids"]
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
        places = [place for place, token in enumerate(row["answer_ids"], 1) if token in ends]
        assert places == [len(row["answer_ids"])]


def test_counts_are_sums_over_rows(chats: ChatRef) -> None:
    """Tokens are counted over the training side."""
    rows = read_rows(chats.folder / "train" / "rows.parquet")
    answers = sum(len(row["answer_ids"]) for row in rows)
    assert chats.answer_tokens == answers
    assert chats.train_tokens == answers + sum(len(row["prompt_ids"]) for row in rows)
    assert chats.train + chats.validation + chats.test == 40
