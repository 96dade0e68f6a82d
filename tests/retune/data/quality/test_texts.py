"""What rows are compared by."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retune.data.quality.texts import PART, content_hash, fold, row_text, text_hash
from tests.retune.data.quality.conftest import EMPTY


@given(st.text(max_size=60))
@settings(max_examples=400, deadline=None)
def test_folding_twice_changes_nothing(text: str) -> None:
    """What was folded stays as it is."""
    once = fold(text)
    assert fold(once) == once


@given(st.text(alphabet=string.ascii_letters + "áÉç +-#=<:)12_.", max_size=30))
@settings(max_examples=400, deadline=None)
def test_folding_signs_twice_changes_nothing(text: str) -> None:
    """So it is where signs, digits and words meet."""
    once = fold(text)
    assert fold(once) == once


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Olá,  MUNDO!", "ola mundo"),  # case, accent, signs, white space
        ("ação", "ac\u0327a\u0303o"),  # composed and decomposed
        ("co\u00adração\u200b", "coracao"),  # soft hyphen and zero-width space show nothing
        ("Straße", "STRASSE"),
        ("Ok...", "Ok"),
        ("Olá\nmundo", "olá\tmundo"),
    ],
)
def test_what_is_no_other_text_folds_to_one(first: str, second: str) -> None:
    """Case, accents, white space and signs between words do not count."""
    assert fold(first) == fold(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("quanto é 3 + 2", "quanto é 3 - 2"),
        ("quanto é 3+2", "quanto é 3*2"),
        ("preço < 5", "preço > 5"),
        ("a <= b", "a < b"),
        ("temperatura -5", "temperatura 5"),
        ("aprenda C++", "aprenda C"),
        ("aprenda C#", "aprenda C"),
        (":)", ":("),
        ("😀", "😡"),
        ("कि", "का"),  # vowel signs of other scripts are no accents
        ("が", "か"),
    ],
)
def test_what_is_another_text_stays_another(first: str, second: str) -> None:
    """Signs that change the sense, and texts of signs alone, are told apart."""
    assert fold(first) != fold(second)


def test_row_text_is_what_the_model_is_asked() -> None:
    """Earlier turns, question and context; no system message, no answer."""
    history = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "r"},
    ]
    row = {**EMPTY, "history": history, "question": "q", "context": "c", "answer": "a"}
    assert row_text(row).split(PART) == ["u\nr", "q", "c"]


def test_plain_text_is_compared_itself() -> None:
    """Where nothing is asked, the answer is the text."""
    assert row_text({**EMPTY, "question": "", "answer": "texto"}) == "texto"


def test_context_of_a_database_is_left_out() -> None:
    """The database's name stands for what creates it."""
    row = {**EMPTY, "question": "q", "context": "CREATE TABLE t (a)", "db_id": "d"}
    assert row_text(row) == "q"


def test_database_belongs_to_what_is_compared() -> None:
    """One question over two databases has two hashes."""
    assert len({text_hash("q", None), text_hash("q", "a"), text_hash("q", "b")}) == 3


def test_content_is_the_same_wherever_it_stands() -> None:
    """Line, file and id are no part of a row's content; its label is."""
    row = {**EMPTY, "question": "q", "line": 1}
    assert content_hash(row) == content_hash({**row, "line": 2, "file": 3, "row_id": "x"})
    assert content_hash(row) != content_hash({**row, "label": "l"})


def test_a_row_without_tools_keeps_its_hash() -> None:
    """Its side depends on the hash: neither columns for tools nor empty fields of turns move it."""
    old = {"history": [{"role": "user", "content": "u"}], "question": "q", "context": "c"}
    old |= {"thinking": None, "answer": "a", "label": None, "db_id": None}
    new = {**old, "steps": [], "calls": None, "learned": None, "tools": None}
    new["history"] = [{"role": "user", "content": "u", "thinking": None, "calls": None}]
    by_hand = '[[{"content":"u","role":"user"}],"q","c",null,"a",null,null]'
    assert content_hash(old) == content_hash(new) == text_hash(by_hand, None)
    for name, value in (("tools", "[]"), ("learned", False), ("steps", old["history"])):
        assert content_hash({**new, name: value}) != content_hash(new)
