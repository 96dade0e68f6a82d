"""The audit of every row: what is left out, what is counted, and what stops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retune.data.chats.auditing import AuditRules, audit_row, find_answer
from retune.data.chats.masks import show_rows
from retune.data.chats.templates import locate_shipped
from retune.data.chats.tokenizers import load_decoder, load_tokenizer
from retune.data.tables import read_rows
from retune.errors import DataError
from retune.records import ChatRef

LONG = "SELECT nome FROM clientes"
HISTORY = [{"role": "user", "content": "Oi"}, {"role": "assistant", "content": "Olá"}]


def counts(chat: ChatRef) -> dict[str, int]:
    """Faults that occur, over all sides."""
    return {name: share.rows for name, share in chat.faults.items() if share.rows}


def kept(chat: ChatRef, side: str = "train") -> list[str]:
    return [row["row_id"] for row in read_rows(chat.folder / side / "rows.parquet")]


def test_sound_rows_have_no_fault(bench: Any) -> None:
    """All six faults are counted, over the rows of all sides."""
    chat = bench.audit([{}, {"answer": LONG}])
    assert counts(chat) == {}
    assert set(chat.faults) == {
        "no_target",
        "cut_targets",
        "no_end",
        "prompt_loss",
        "answer_in_prompt",
        "malformed_chats",
    }
    assert chat.faults["no_end"].of == 4
    assert (chat.train, chat.validation, chat.test) == (2, 1, 1)


def test_a_template_that_puts_the_answer_into_the_prompt(bench: Any, read_left_out: Any) -> None:
    """The first stop: the answer as context of two rows of three; the rows are kept and listed."""
    rows = [
        {"question": "Nomes?", "context": LONG, "answer": LONG},
        {"question": f"Escreva {LONG}", "answer": LONG},
        {"question": "Nomes?", "answer": LONG},
    ]
    chat = bench.audit(rows)
    # Of the three and one on each other side.
    assert counts(chat) == {"answer_in_prompt": 2}
    assert chat.faults["answer_in_prompt"].of == 5
    assert chat.faults["answer_in_prompt"].first == ("0-0", "0-1")
    assert kept(chat) == ["0-0", "0-1", "0-2"]
    listed = read_left_out(chat)
    assert [(row["row_id"], row["fault"], row["kept"]) for row in listed] == [
        ("0-0", "answer_in_prompt", True),
        ("0-1", "answer_in_prompt", True),
    ]


def test_a_limit_that_cuts_targets(bench: Any, read_left_out: Any) -> None:
    """Rows over the limit are left out, with what would have been lost."""
    words = " ".join(["palavra"] * 40)
    chat = bench.audit([{"answer": "curta"}, {"answer": words}], max_length=40)
    assert counts(chat) == {"cut_targets": 1}
    assert kept(chat) == ["0-0"]
    row = read_left_out(chat)[0]
    assert (row["row_id"], row["side"], row["kept"]) == ("0-1", "train", False)
    assert row["prompt_tokens"] + row["answer_tokens"] > row["max_length"] == 40
    assert "palavra palavra" in row["lost"]


def test_a_limit_that_cuts_every_target_stops(bench: Any) -> None:
    """The second stop: nothing is left of a side."""
    words = " ".join(["palavra"] * 40)
    with pytest.raises(
        DataError,
        match=r"train: none of its 2 rows is left. 2 of them are longer than prompt.max_length = 16"
        r" tokens.* Raise prompt.max_length",
    ):
        bench.audit([{"answer": words}, {"answer": words + "!"}], max_length=16)


def test_a_wrong_mask(bench: Any, tmp_path: Path, read_left_out: Any) -> None:
    """The third stop: marks around the user's turns; every row is counted."""
    path = tmp_path / "wrong.jinja"
    path.write_text(
        "{% for m in messages %}<|{{ m['role'] }}|>"
        "{% if m['role'] == 'user' %}{% generation %}{{ m['content'] + eos_token }}"
        "{% endgeneration %}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    template = locate_shipped("headings").model_copy(update={"path": path})
    chat = bench.audit([{}, {}], template=template, loss_on="assistant")
    assert counts(chat) == {"prompt_loss": 4}
    assert read_left_out(chat)[0]["tokens"] == "Quantos?<|end|>"
    # Marked: the answer carries no loss at all, so that there is nothing to learn either.
    with pytest.raises(DataError, match=r"none of its 2 rows is left"):
        bench.audit([{}, {}], template=template, loss_on="marked")


@pytest.mark.parametrize("loss_on", ["assistant", "marked"])
def test_marks_around_everything_are_a_wrong_mask(bench: Any, tmp_path: Path, loss_on: str) -> None:
    """Where a mark reaches into the answer, only the head of its own turn is forgiven."""
    path = tmp_path / "all.jinja"
    path.write_text(
        "{% generation %}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] + eos_token }}"
        "{% endfor %}{% endgeneration %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    template = locate_shipped("headings").model_copy(update={"path": path})
    asked = "Quantos clientes há em cada cidade do estado, em ordem alfabética, sem repetição?"
    chat = bench.audit(
        [{"question": asked, "history": HISTORY}], template=template, loss_on=loss_on
    )
    assert counts(chat) == {"prompt_loss": 3}


def test_loss_on_all_is_prompt_loss(bench: Any) -> None:
    """Of chats, which have a prompt; the limit has to be taken away for it."""
    assert counts(bench.audit([{}], loss_on="all")) == {"prompt_loss": 3}


def test_plain_text_has_no_prompt(bench: Any) -> None:
    """So that loss on all of it is right; one token stands before it."""
    chat = bench.audit([{"question": "", "answer": "Era uma vez."}], format="text", loss_on="all")
    assert counts(chat) == {}
    assert chat.answer_tokens == chat.train_tokens - 1


def test_earlier_turns_of_the_assistant_may_carry_loss(bench: Any) -> None:
    """Where loss_on asks for them; the tokens that carry loss are counted with them."""
    chat = bench.audit([{"history": HISTORY}], loss_on="assistant")
    alone = bench.audit([{"history": HISTORY}])
    assert counts(chat) == {}
    tokenizer = load_tokenizer(bench.base.folder)
    turn = len(tokenizer("Olá<|end|>", add_special_tokens=False)["input_ids"])
    assert chat.answer_tokens == alone.answer_tokens + turn


def test_an_end_token_in_the_middle_is_left_out(bench: Any, read_audit: Any) -> None:
    """A model that learned the row would stop there."""
    chat = bench.audit([{}, {"answer": "SELECT '<|end|>'"}])
    assert counts(chat) == {"no_end": 1}
    assert kept(chat) == ["0-0"]
    assert "SELECT '<|end|>'<|end|>" in read_audit(chat).examples["no_end"][0]


def test_a_mask_without_the_end_token_is_no_end(bench: Any, tmp_path: Path) -> None:
    """Marks that close before the end token, as some templates have them."""
    path = tmp_path / "open.jinja"
    path.write_text(
        "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' %}"
        "{% generation %}{{ m['content'] }}{% endgeneration %}{{ eos_token }}"
        "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    template = locate_shipped("headings").model_copy(update={"path": path})
    with pytest.raises(DataError, match="2 of them have no end token at the end of their target"):
        bench.audit([{}, {}], template=template, loss_on="marked")
    # The answer as a whole carries loss under "assistant", its end token with it.
    assert counts(bench.audit([{}], template=template, loss_on="assistant")) == {}


def test_malformed_chats_are_left_out(harmony_bench: Any, read_left_out: Any) -> None:
    """With the reason that encoding found."""
    chat = harmony_bench.audit([{}, {"answer": "<|channel|>x<|message|>y<|end|>"}])
    assert counts(chat) == {"malformed_chats": 1}
    assert "unknown channel 'x'" in read_left_out(chat)[0]["reason"]


def rules(**changed: Any) -> AuditRules:
    def decode(ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    return AuditRules(
        **{"max_length": 9, "end_ids": frozenset({0}), "decode": decode, "assistant_may": False}
        | changed
    )


def audit(prompt: list[int], answer: list[int], mask: list[int] | None = None) -> set[str]:
    row = {"question": "", "context": "", "history": [], "answer": "", "db_id": None}
    truth = None if mask is None else np.array(mask, dtype=bool)
    texts = row | {"prompt": "p", "fault": None}
    return set(audit_row(texts, np.array(prompt), np.array(answer), truth, rules()))


@pytest.mark.parametrize(
    ("prompt", "answer", "mask", "faults"),
    [
        ([1, 2], [3, 0], None, set()),
        ([1, 2], [3, 4], None, {"no_end"}),
        ([1, 2], [0, 3, 0], None, {"no_end"}),
        ([1, 2], [0], None, {"no_target"}),  # an end token alone says nothing
        ([1, 2], [3, 0], [0, 0, 0, 0], {"no_target"}),
        ([1, 2], [3, 0], [0, 0, 1, 0], {"no_end"}),
        ([1, 2], [3, 0], [1, 0, 1, 1], {"prompt_loss"}),
        ([1] * 7, [3, 0], None, set()),  # nine tokens fit
        ([1] * 8, [3, 0], None, {"cut_targets"}),
        ([1] * 12, [3, 0], [1] * 14, {"cut_targets", "prompt_loss"}),
    ],
)
def test_faults_of_ids(
    prompt: list[int], answer: list[int], mask: list[int] | None, faults: set[str]
) -> None:
    """Each by hand: 0 ends an answer, nine tokens are allowed."""
    assert audit(prompt, answer, mask) == faults


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"prompt": f"Q {LONG}"}, True),
        ({"prompt": "Q SELECT\n  nome FROM\tclientes"}, True),  # white space folded
        ({"prompt": "Q"}, False),
        ({"prompt": f"Q {LONG}", "context": f"a {LONG} b"}, True),  # beside the context
        ({"prompt": f"Q a {LONG} b", "context": f"a {LONG} b"}, False),  # reading comprehension
        ({"prompt": f"Q a {LONG} b", "context": f"a {LONG} b", "db_id": "d"}, True),  # SQL
        ({"prompt": f"{LONG} Q", "history": [{"role": "assistant", "content": LONG}]}, False),
        # A turn that stands inside the answer accounts for nothing.
        ({"prompt": f"e {LONG}", "history": [{"role": "user", "content": "e"}]}, True),
        ({"prompt": "spam or ham", "answer": "spam"}, False),  # too short to tell
        ({"prompt": "spam", "question": "spam", "answer": "spam"}, True),
        ({"prompt": "", "answer": LONG, "question": LONG}, False),  # plain text
    ],
)
def test_where_an_answer_does_not_belong(changed: dict[str, Any], found: bool) -> None:
    """Outside of the row's context and earlier turns."""
    row = {"question": "Q", "context": "", "history": [], "answer": LONG, "db_id": None}
    assert (find_answer(row | changed) is not None) == found


def test_rows_stand_in_the_order_of_the_index(bench: Any) -> None:
    """From several sources, in any order, whatever row groups they lie in."""
    sources = [
        bench.source([{"question": f"{name}{i}", "answer": f"{name}{i}."} for i in range(6)])
        for name in "ab"
    ]
    chats = [bench.encode(source) for source in sources]
    order = [(1, 4), (0, 5), (1, 0), (0, 0), (0, 3)]
    sides = {"train": order, "validation": [(0, 1)], "test": [(1, 1)]}
    chat = bench.prepare(sources, chats, sides)
    rows = read_rows(chat.folder / "train" / "rows.parquet")
    assert [row["question"] for row in rows] == ["b4", "a5", "b0", "a0", "a3"]
    for row in rows:
        assert row["answer"] == row["question"] + "."
        assert row["question"] in row["prompt"]
    tokenizer = load_tokenizer(bench.base.folder)
    assert tokenizer.decode(rows[0]["answer_ids"]) == "b4.<|end|>"


def test_a_side_holds_its_own_databases_only(bench: Any) -> None:
    """A new training row must leave the test side's digest, and so its scores, as they are."""
    shops = [{"db_id": n, "schema": f"CREATE TABLE {n} (a)", "context": ""} for n in "abc"]
    source = bench.source([{"db_id": n} for n in "abcab"], "text_to_sql", shops)
    encoded = bench.encode(source)
    sides = {"train": [(0, 0), (0, 3)], "validation": [(0, 2)], "test": [(0, 1)]}
    less = bench.prepare([source], [encoded], sides)
    more = bench.prepare([source], [encoded], sides | {"train": [(0, 0), (0, 3), (0, 4)]})

    def held(chat: ChatRef, side: str) -> list[str]:
        return [one["db_id"] for one in read_rows(chat.folder / side / "databases.parquet")]

    assert (held(less, "train"), held(more, "train")) == (["a"], ["a", "b"])
    assert (held(less, "test"), held(more, "test")) == (["b"], ["b"])
    assert more.side_digests["test"] == less.side_digests["test"]
    assert more.side_digests["train"] != less.side_digests["train"]


def test_a_database_stands_once_on_a_side(bench: Any) -> None:
    """Also when two sources bring it along."""
    shop = {"db_id": "a", "schema": "CREATE TABLE a (a)", "context": ""}
    sources = [bench.source([{"db_id": "a"}] * 3, "text_to_sql", [shop]) for _ in range(2)]
    sides = {"train": [(0, 0), (1, 0)], "validation": [(0, 1)], "test": [(1, 1)]}
    chat = bench.prepare(sources, [bench.encode(source) for source in sources], sides)
    assert read_rows(chat.folder / "train" / "databases.parquet") == [shop]


def test_what_was_found_is_no_part_of_the_digest(bench: Any) -> None:
    """Log files name rows that are not there any more."""
    chat = bench.audit([{}, {"answer": "x<|end|>y"}])
    alone = bench.audit([{}])
    assert chat.side_digests["train"] == alone.side_digests["train"]


def test_the_report_counts_every_row(bench: Any, read_audit: Any) -> None:
    """Rows looked at, kept, tokens, lengths and decoded targets."""
    chat = bench.audit([{}, {"answer": "x<|end|>y"}])
    report = read_audit(chat)
    train = report.sides["train"]
    assert (train.rows, train.kept, train.faults["no_end"]) == (2, 1, 1)
    assert (train.tokens, train.target_tokens) == (chat.train_tokens, chat.answer_tokens)
    assert sum(train.answer_lengths.counts) == 2
    assert report.examples["targets"][0] == "0-0: SELECT 1<|end|>"


def test_rows_are_shown_as_the_model_reads_them(bench: Any) -> None:
    """Pieces alternate between what is read and what is learned."""
    chat = bench.audit([{"history": HISTORY}, {}], loss_on="assistant")
    shown = show_rows(chat.side("train"), load_decoder(bench.base.folder), 1)
    assert len(shown) == 1
    assert shown[0].row_id == "0-0"
    assert shown[0].pieces == (
        ("<|user|>Oi<|end|><|assistant|>", False),
        ("Olá<|end|>", True),
        ("<|user|>Quantos?<|end|><|assistant|>", False),
        ("SELECT 1<|end|>", True),
    )
