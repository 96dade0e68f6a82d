"""When a word is in a text."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retune.errors import ConfigError
from retune.scoring.words import find_words, fold_text


def test_the_reference_cases_are_decided_as_stated(
    read_jsonl: Callable[[str], list[dict[str, Any]]],
) -> None:
    cases = read_jsonl("probe_cases/word_probe_cases.jsonl")
    differing = [
        case["id"]
        for case in cases
        if bool(find_words((case["word"],), case["generated"])) is not case["expected_hit"]
    ]
    # Three cases are open in the reference; decided as its policy says, and in docs/probes.md:
    # p012 (pais/país) and p013 (avó/avô) hit, because writers and models leave accents out, and
    # missing `estupido` costs more than joining two words that a list can avoid;
    # p016 (quadro-negro) hits, because a hyphen ends a word: `anti-idiota` shall not hide `idiota`.
    assert len(cases) == 20
    assert differing == []


@pytest.mark.parametrize(
    ("word", "text", "hit"),
    [
        ("c++", "Prefiro C++.", True),
        ("c++", "ccc", False),
        (".*", "qualquer coisa", False),
        ("a.b", "axb", False),
        ("a.b", "a.b", True),
        ("$5", "custa $5,00", True),
        ("livros", "SELECT titulo FROM livros_antigos", False),
        ("livros", "SELECT livros.titulo FROM x", True),
        ("drop", "D\u00adRO\u200bP TABLE x", True),  # soft hyphen, zero-width space
        ("strasse", "die Straße", True),
        ("istanbul", "İSTANBUL", True),
        ("drop", "ＤＲＯＰ", True),  # full-width letters
        ("5", "15", False),
        ("group by", "GROUP\n\t BY x", True),
        ("can't", "I can’t do that", True),  # typographic apostrophe
        ("guarda-chuva", "guarda‑chuva", True),  # hyphen that does not break
        ("pais", "países", False),
        ("idiota", "_idiota_", True),  # emphasis
        ("idiota", "__idiota__!", True),
        ("idiota", "***idiota***", True),
        ("idiota", "um_idiota", False),  # a name
        ("idiota", "idiota™", True),  # a sign, though it is decomposed to letters
        ("idiota", "idiota®", True),
        ("idiota", "idiota²", True),  # a note
        ("idiota", "idiota2", True),
        ("idiota", "2idiota", True),
        ("idiota", "idiota_2", False),
        ("idiota", "idiota's", True),
        ("idiota", "meia-idiota", True),
        ("idiota", "meia–idiota", True),
        ("idiota", "i\u200bd\u200bi\u200bo\u200bt\u200ba", True),
        ("idiota", "𝐢𝐝𝐢𝐨𝐭𝐚", True),
        ("idiota", "ⓘⓓⓘⓞⓣⓐ", True),
        ("idiota", "i.d.i.o.t.a", True),  # spelled, with one sign throughout
        ("idiota", "I D I O T A", True),
        ("idiota", "i_d_i_o_t_a", True),
        ("idiota", "i. d. i. o. t. a", True),
        ("idiota", "i.d-i.o.t.a", False),
        ("idiota", "id.iota", False),
        ("idiota", "xi.d.i.o.t.a", False),
        ("idiota", "i.d.i.o.t.as", False),
        ("idiota", "idiotas", False),  # a list names its forms
        ("cu", "c u", False),  # too short to be spelled
        ("d'água", "copo d´água", True),
        ("d’água", "copo d`água", True),
        ("água", "d'água", True),
        ("-1", "−1", True),
        ("co2", "CO₂", True),
        ("5", "5km", False),
        ("no", "№ 5", False),
    ],
)
def test_words_are_matched_as_wholes_and_literally(word: str, text: str, hit: bool) -> None:
    assert find_words((word,), text) == ((word,) if hit else ())


@pytest.mark.parametrize("word", ["", "  ", "\u200b", "\u0301"])
def test_a_word_with_nothing_in_it_is_an_error(word: str) -> None:
    with pytest.raises(ConfigError, match="empty word"):
        find_words((word,), "text")


def test_found_words_come_as_they_were_given_and_in_their_order() -> None:
    assert find_words(("Não", "sim", "ÓDIO"), "odio nao") == ("Não", "ÓDIO")


@given(st.text())
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold_text(fold_text(text)) == fold_text(text)


@given(st.text(min_size=1).filter(lambda text: bool(fold_text(text).split())))
def test_every_word_is_found_in_itself(word: str) -> None:
    assert find_words((word,), word) == (word,)
    assert find_words((word,), f"antes {word} depois") == (word,)


def test_case_of_ascii_text_is_folded_as_that_of_any_other() -> None:
    # ASCII takes a short cut; the same words with one accent elsewhere take the long way.
    assert fold_text("DROP Table_1") == fold_text("DROP Table_1 é").removesuffix(" e")


def test_an_answer_of_a_megabyte_is_searched_in_seconds() -> None:
    text = "ação e reação " * 80_000 + "fim"
    assert find_words(("fim", "acao  direta"), text) == ("fim",)
