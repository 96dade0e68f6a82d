"""Words: identifiers, and one sentence out of many."""

import random

from generator.words import as_identifier, spin


def test_an_identifier_is_plain_ascii() -> None:
    assert as_identifier("preço unitário") == "preco_unitario"
    assert as_identifier("Estações de Rádio") == "estacoes_de_radio"


def test_spinning_takes_one_of_each_choice_and_joins_blanks() -> None:
    # Two choices of two make four sentences; none has a double blank.
    drawn = {spin(random.Random(seed), "[a|b] [|x] c") for seed in range(50)}
    assert drawn == {"a c", "a x c", "b c", "b x c"}


def test_spinning_goes_into_nested_choices() -> None:
    drawn = {spin(random.Random(seed), "[a [b|c]|d]") for seed in range(50)}
    assert drawn == {"a b", "a c", "d"}
