"""Several right answers of one row: the first is learned, all are kept."""

from __future__ import annotations

from typing import Any

import pytest

from retune.data.formats.normalising import Layout
from retune.errors import DataError
from retune.recipe.sections.data import ColumnsConfig


def read(row: dict[str, Any], format_name: Any = "instruction", **columns: str) -> dict[str, Any]:
    return Layout(format_name, ColumnsConfig(**columns)).normalise(row).fields


def test_a_list_of_answers_is_learned_by_its_first_and_accepted_as_a_whole() -> None:
    fields = read({"question": "Capital?", "answer": ["Brasília", "Brasília, DF", "Brasília"]})
    assert fields["answer"] == "Brasília"
    assert fields["references"] == ["Brasília", "Brasília, DF"]


def test_a_list_of_one_answer_is_that_answer() -> None:
    """Also where it is written twice; rows keep a list where there is a choice."""
    for value in (["Brasília"], ["Brasília", "Brasília"]):
        fields = read({"question": "Capital?", "answer": value})
        assert (fields["answer"], fields["references"]) == ("Brasília", None)


def test_answers_as_squad_keeps_them_are_accepted_as_a_whole() -> None:
    """An annotator who left the place blank gave no answer."""
    answers = {"text": ["em 1822", " ", "1822"], "answer_start": [4, 0, 7]}
    fields = read({"context": "Foi em 1822.", "question": "Quando?", "answers": answers})
    assert (fields["answer"], fields["references"]) == ("em 1822", ["em 1822", "1822"])


@pytest.mark.parametrize(
    ("format_name", "row"),
    [
        ("instruction", {"instruction": "Oi", "output": "Olá"}),
        ("prompt_completion", {"prompt": "Oi", "completion": "Olá"}),
        (
            "messages",
            {
                "messages": [
                    {"role": "user", "content": "Oi"},
                    {"role": "assistant", "content": "Olá"},
                ]
            },
        ),
    ],
)
def test_a_key_beside_the_answer_names_others(format_name: str, row: dict[str, Any]) -> None:
    """In each layout that has one answer in free text; also a list that a table has as text."""
    for value in (["Oi!", "Olá"], '["Oi!", "Olá"]'):
        fields = read({**row, "reference_answers": value}, format_name)
        assert (fields["answer"], fields["references"]) == ("Olá", ["Olá", "Oi!"])
    assert read(row, format_name)["references"] is None


def test_references_are_read_where_the_recipe_says_so_alone() -> None:
    """The name mostly stands for sources of a text."""
    row = {"instruction": "Oi", "output": "Olá", "references": ["https://example.org"]}
    assert read(row)["references"] is None
    assert read(row, references="references")["references"] == ["Olá", "https://example.org"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (["Oi", 3], "mixes kinds: expected texts alone.* found also integer"),
        (["Oi", None, {"a": 1}], "found also null, object"),
        ("Oi", "is text: expected a list of texts"),
        (["Oi", " "], "is empty"),
    ],
)
def test_references_of_mixed_kinds_are_refused(value: Any, said: str) -> None:
    """When rows are read, long before a training."""
    with pytest.raises(DataError, match=said):
        read({"instruction": "Oi", "output": "Olá", "reference_answers": value})
