"""What two texts may differ in and still be equal."""

from __future__ import annotations

from typing import get_args

import pytest

from retune.recipe.sections.scoring import TextNormaliser
from retune.scoring.free_text.normalising import normalise, plain_number


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("case", "A PRAIA", "a praia"),
        ("accents", "ação é là", "acao e la"),
        ("punctuation", "«sim», não… (talvez)!", "sim não talvez"),
        ("articles_pt", "O gato e as duas umas a", "gato e duas"),
        ("articles_en", "The cat, an apple a day", "cat, apple day"),
        ("numbers", "R$ 1.234,50 e 3", "R$ 1234.5 e 3"),
    ],
)
def test_a_normaliser_takes_out_its_own_thing_alone(
    name: TextNormaliser, text: str, expected: str
) -> None:
    assert normalise(text, [name]) == expected


def test_a_text_keeps_what_is_not_named() -> None:
    """But for white space beyond one blank."""
    assert normalise(" O  gato,\n É! ", []) == "O gato, É!"


def test_an_article_is_a_whole_word() -> None:
    """`o` is taken out, and neither `ovo` nor `a` within `água`."""
    assert normalise("o ovo à água", ["articles_pt"]) == "ovo à água"


def test_a_decimal_point_outlives_punctuation_where_numbers_are_read() -> None:
    """Otherwise 1.5 and 15 would be the same answer; without it they are, as in SQuAD's script."""
    assert normalise("1,5.", ["numbers", "punctuation"]) == "1.5"
    assert normalise("1.5.", ["punctuation"]) == "15"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1.234,56", "1234.56"),
        ("1,234.56", "1234.56"),
        ("1.234.567", "1234567"),
        ("1,234", "1234"),
        ("0,125", "0.125"),
        ("12,5", "12.5"),
        ("12,50", "12.5"),
        ("12,00", "12"),
        ("1234,567", "1234.567"),
        ("42", "42"),
    ],
)
def test_numbers_of_both_languages_are_one(written: str, expected: str) -> None:
    assert plain_number(written) == expected


def test_the_order_of_the_recipe_does_not_matter() -> None:
    """Punctuation before numbers would glue digits together."""
    names = get_args(TextNormaliser)
    text = "Os 1.234,50 reais, The END é!"
    assert normalise(text, names) == normalise(text, names[::-1]) == "1234.5 reais end e"
