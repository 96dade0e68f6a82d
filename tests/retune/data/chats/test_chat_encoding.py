"""Encoding: token ids and loss masks of every row, whatever the template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retune.data.chats import encoding
from retune.data.chats.masks import find_stretches
from retune.data.chats.templates import locate_shipped
from retune.data.chats.tokenizers import load_tokenizer
from retune.data.chats.tokenizing import tokenize
from retune.data.stages import EncodeSettings
from retune.data.tables import read_rows
from retune.errors import ConfigError, DataError
from retune.modeling.snapshots import locate_base
from retune.records import EncodedRef
from tests.making import settings_of

Snapshot = Callable[[str], Path]
HISTORY = [{"role": "user", "content": "Oi"}, {"role": "assistant", "content": "Olá"}]


def rows_of(chats: EncodedRef) -> list[dict[str, Any]]:
    return read_rows(chats.folder / "chats.parquet")


def learned(bench: Any, row: dict[str, Any]) -> list[str]:
    """Decode the stretches that carry loss."""
    tokenizer = load_tokenizer(bench.base.folder)
    ids = [*row["prompt_ids"], *row["answer_ids"]]
    stretches = find_stretches(row["loss_mask"])
    return [tokenizer.decode(ids[begin:end]) for begin, end, on in stretches if on]


def test_loss_on_the_answer_needs_no_mask(bench: Any) -> None:
    """Null stands for: the answer's tokens."""
    chats = bench.encode(bench.source([{"history": HISTORY}]))
    row = rows_of(chats)[0]
    tokenizer = load_tokenizer(bench.base.folder)
    assert row["prompt"] == (
        "<|user|>Oi<|end|><|assistant|>Olá<|end|><|user|>Quantos?<|end|><|assistant|>"
    )
    assert tokenizer.decode(row["prompt_ids"]) == row["prompt"]
    assert tokenizer.decode(row["answer_ids"]) == "SELECT 1<|end|>"
    assert (row["loss_mask"], row["fault"], row["repaired"]) == (None, None, False)
    assert (chats.rows, chats.tokens) == (1, len(row["prompt_ids"]) + len(row["answer_ids"]))


@pytest.mark.parametrize("loss_on", ["assistant", "marked"])
def test_loss_on_every_turn_of_the_assistant(bench: Any, loss_on: str) -> None:
    """By the template's generation marks: each turn with its end token, and nothing between."""
    row = rows_of(bench.encode(bench.source([{"history": HISTORY}]), loss_on=loss_on))[0]
    assert learned(bench, row) == ["Olá<|end|>", "SELECT 1<|end|>"]


def test_marks_of_trls_variant(bench: Any, snapshot: Snapshot, tmp_path: Path) -> None:
    """ChatML as Qwen 2.5 has it, without marks of its own."""
    from trl.chat_template_utils import qwen2_5_chat_template

    bench.base = locate_base(str(snapshot("qwen3")), None)
    path = tmp_path / "qwen.jinja"
    path.write_text(qwen2_5_chat_template, "utf-8")
    template = locate_shipped("headings").model_copy(update={"path": path})
    source = bench.source([{"history": HISTORY}])
    row = rows_of(bench.encode(source, template=template, loss_on="assistant"))[0]
    assert [text.strip() for text in learned(bench, row)] == [
        "Olá<|im_end|>",
        "SELECT 1<|im_end|>",
    ]


def test_the_head_of_a_turn_is_read_though_it_is_marked(
    bench: Any, snapshot: Snapshot, tmp_path: Path
) -> None:
    """Marks may begin before the generation prompt's end (gpt-oss); an empty thought is written."""
    path = tmp_path / "head.jinja"
    path.write_text(
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}<|assistant|>"
        "<think></think>{{ m['content'] + eos_token }}{% endgeneration %}"
        "{% else %}<|user|>{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    template = locate_shipped("headings").model_copy(update={"path": path})
    row = rows_of(bench.encode(bench.source([{}]), template=template, loss_on="marked"))[0]
    assert row["prompt"] == "<|user|>Quantos?<|end|><|assistant|>"
    assert learned(bench, row) == ["<think></think>SELECT 1<|end|>"]


def test_loss_on_all(bench: Any) -> None:
    """Every token of the chat."""
    row = rows_of(bench.encode(bench.source([{}]), loss_on="all"))[0]
    assert learned(bench, row) == [row["prompt"] + "SELECT 1<|end|>"]


@pytest.mark.parametrize("loss_on", ["answer", "all", "marked"])
def test_plain_text_is_all_answer(bench: Any, loss_on: str) -> None:
    """No prompt but the token that texts begin after; an end token at its end, always."""
    source = bench.source([{"question": "", "answer": "Era uma vez."}], "text")
    row = rows_of(bench.encode(source, loss_on=loss_on))[0]
    tokenizer = load_tokenizer(bench.base.folder)
    assert (row["prompt"], row["loss_mask"]) == ("<|end|>", None)
    assert row["prompt_ids"] == [tokenizer.eos_token_id]
    assert tokenizer.decode(row["answer_ids"]) == "Era uma vez.<|end|>"


def test_the_schema_of_a_rows_own_database_is_asked_about(bench: Any) -> None:
    """An unknown database is a fault of the row."""
    shop = {"db_id": "shop", "schema": "CREATE TABLE t (a)", "context": "INSERT"}
    source = bench.source([{"db_id": "shop"}, {"db_id": "none"}], "text_to_sql", [shop])
    known, unknown = rows_of(bench.encode(source))
    assert "<SCHEMA>\nCREATE TABLE t (a)\n</SCHEMA>" in known["prompt"]
    assert unknown["fault"] == "malformed_chats: its database is not known (db_id 'none')"
    assert (unknown["prompt_ids"], unknown["answer_ids"]) == ([], [])


def test_a_fault_keeps_the_rows_place(bench: Any) -> None:
    """The others are not lost, and stand where they stood."""
    source = bench.source([{"answer": "A"}, {"answer": "a <|end|> b"}, {"answer": "B"}])
    faults = [row["fault"] for row in rows_of(bench.encode(source))]
    assert faults[0] is None
    assert faults[2] is None
    assert faults[1].startswith("no_end: its answer holds an end token (<|end|>) in the middle")


def test_a_fault_of_every_row_stops(bench: Any, tmp_path: Path) -> None:
    """The template, not the rows, is wrong then."""
    path = tmp_path / "no.jinja"
    path.write_text("{{ raise_exception('no roles here') }}")
    template = locate_shipped("headings").model_copy(update={"path": path})
    with pytest.raises(DataError, match=r"None of the 2 rows can be .* refuses it: no roles here"):
        bench.encode(bench.source([{}, {}]), template=template)


def test_marks_that_are_not_there_are_a_config_error(bench: Any, snapshot: Snapshot) -> None:
    """Before a row is read."""
    bench.base = locate_base(str(snapshot("gemma3")), None)
    with pytest.raises(ConfigError, match="does not mark what the assistant writes"):
        bench.encode(bench.source([{}]), loss_on="marked")


def test_channels_in_an_answer_are_read_and_mended(harmony_bench: Any) -> None:
    """Rows written for gpt-oss by hand often lack the final channel."""
    raw = "<|channel|>analysis<|message|>Conto.<|end|>Dois."
    source = harmony_bench.source([{"answer": raw}, {"answer": "Dois.", "thinking": "Conto."}])
    chats = harmony_bench.encode(source)
    mended, sound = rows_of(chats)
    assert mended["answer_ids"] == sound["answer_ids"]
    assert (mended["repaired"], sound["repaired"], chats.repaired) == (True, False, 1)


def test_every_row_of_a_harmony_source_is_checked(harmony_bench: Any) -> None:
    """Not a sample: the one with an unknown channel is named."""
    bad = "<|channel|>thoughts<|message|>Dois.<|return|>"
    chats = harmony_bench.encode(harmony_bench.source([{}, {"answer": bad}, {}]))
    faults = [row["fault"] for row in rows_of(chats)]
    assert faults[0] is faults[2] is None
    assert "unknown channel 'thoughts'" in faults[1]


@pytest.mark.parametrize("loss_on", ["answer", "assistant"])
def test_pieces_change_nothing(bench: Any, monkeypatch: pytest.MonkeyPatch, loss_on: str) -> None:
    """Rows encoded two at a time are those encoded all at once."""
    rows = [{"question": f"Q{i}", "answer": f"A{i}", "history": HISTORY} for i in range(5)]
    rows[3]["answer"] = "x<|end|>y"
    at_once = bench.encode(bench.source(rows), loss_on=loss_on)
    monkeypatch.setattr(encoding, "_ROWS_AT_ONCE", 2)
    in_pieces = bench.encode(bench.source(rows), loss_on=loss_on)
    assert rows_of(in_pieces) == rows_of(at_once)
    assert in_pieces.digest == at_once.digest


def test_the_order_of_rows_changes_no_row(bench: Any) -> None:
    """Each row stands for itself."""
    rows = [{"question": f"Q{i}", "answer": f"A{i}"} for i in range(4)]
    forth = rows_of(bench.encode(bench.source(rows)))
    back = rows_of(bench.encode(bench.source(rows[::-1])))
    assert back == forth[::-1]


def test_fast_tokenizing_is_transformers_tokenizing(bench: Any) -> None:
    """Same ids, and offsets that cut the text into its tokens."""
    tokenizer = load_tokenizer(bench.base.folder)
    texts = ["<|user|>Ação: é à noite\n\n 12<|end|>", "", "x" * 50]
    slow = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert [ids for ids, _ in tokenize(tokenizer, texts)] == slow
    assert [ids for ids, _ in tokenize(tokenizer, texts, offsets=True)] == slow


def test_control_tokens_in_a_question_are_told(bench: Any) -> None:
    """They would be read as tokens; one line says in how many rows."""
    tokenizer = load_tokenizer(bench.base.folder)
    made = encoding.RowEncoder(
        tokenizer,
        [tokenizer.eos_token_id],
        settings_of(EncodeSettings),
        schemas=encoding.SchemaLookup([]),
    )
    source = bench.source([{"question": "o que é <|end|>?"}, {"question": "oi"}])
    list(made.encode_all(read_rows(source.folder / "rows.parquet")))
    assert made.control_texts == 1
