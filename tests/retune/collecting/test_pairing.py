"""Sections and sentences as pairs, what is dropped, and ids that stay."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retune.collecting.extracting import Extraction
from retune.collecting.pairing import pair_sections, split_blocks
from retune.collecting.records import CollectSettings, Document, Section
from retune.collecting.rows import make_rows
from retune.collecting.sentences import pair_sentences, split_sentences


def _section(*blocks: str, path: tuple[str, ...] = ("2. Lists",)) -> Section:
    return Section(path=path, level=len(path), blocks=blocks)


def _document(*sections: Section, source: str = "a.html", title: str = "Guide") -> Document:
    return Document(source=source, title=title, language=None, sections=sections)


def test_headings_ask_and_the_body_answers() -> None:
    """The title comes first, numbers of chapters go, a title that is also a heading comes once."""
    section = _section("One.", "```\nx\n```", path=("Guide", "2.1 Lists", "3 ways to sort"))
    (pair,), _ = pair_sections(_document(section), min_characters=1, max_characters=200)
    assert pair.question == "Guide: Lists: 3 ways to sort"
    assert pair.answer == "One.\n\n```\nx\n```"
    assert (pair.heading, pair.source) == ("Guide > 2.1 Lists > 3 ways to sort", "a.html")


def test_sections_that_give_nothing_are_counted_by_reason() -> None:
    """Empty, two characters where three are asked for, and three, which is enough."""
    document = _document(_section(), _section("ab"), _section("abc"))
    pairs, dropped = pair_sections(document, min_characters=3, max_characters=200)
    assert [pair.answer for pair in pairs] == ["abc"]
    assert dropped == Counter({"heading without body": 1, "section too short": 1})


def test_a_long_section_is_split_between_blocks() -> None:
    """Bodies of at most 10: 4 + 2 + 4 fits, the next does not; the question says which part."""
    document = _document(_section("aaaa", "bbbb", "cccc"))
    pairs, _ = pair_sections(document, min_characters=1, max_characters=10)
    assert [(pair.question, pair.answer) for pair in pairs] == [
        ("Guide: Lists (1/2)", "aaaa\n\nbbbb"),
        ("Guide: Lists (2/2)", "cccc"),
    ]


def test_a_listing_longer_than_the_limit_stays_whole() -> None:
    """Its blank lines are no place to cut."""
    listing = "```\na\n\nb\n\nc\n```"
    assert list(split_blocks(["text", listing, "more"], 6)) == ["text", listing, "more"]


def test_a_short_rest_joins_the_part_before() -> None:
    """Five characters are asked for and two are left."""
    assert list(split_blocks(["aaaaaaaa", "bb"], 8, 5)) == ["aaaaaaaa\n\nbb"]


@given(st.lists(st.text("ab\n", min_size=1, max_size=12), max_size=12), st.integers(1, 20))
def test_splitting_loses_and_changes_nothing(blocks: list[str], longest: int) -> None:
    """Joined again, the bodies are the section."""
    assert "\n\n".join(split_blocks(blocks, longest)) == "\n\n".join(blocks)


def test_ids_depend_on_the_place_and_not_on_the_words() -> None:
    """An edited section keeps its id; the same heading twice gives two; another page another."""
    before, _ = pair_sections(
        _document(_section("old"), _section("old")), min_characters=1, max_characters=200
    )
    after, _ = pair_sections(
        _document(_section("new"), _section("new")), min_characters=1, max_characters=200
    )
    other, _ = pair_sections(
        _document(_section("old"), source="b.html"), min_characters=1, max_characters=200
    )
    assert [pair.id for pair in before] == [pair.id for pair in after]
    assert len({pair.id for pair in [*before, *other]}) == 3


def test_bodies_that_many_pages_repeat_are_dropped() -> None:
    """On three pages, in other case and spacing: dropped; on two pages: kept."""
    notes = ["Subscribe to  us", "subscribe to us", "Subscribe to us"]
    twice = ["Same words", "Same words", "Other words"]
    documents = [
        (_document(_section(note), _section(text), source=f"{n}.html"), False)
        for n, (note, text) in enumerate(zip(notes, twice, strict=True))
    ]
    made = make_rows(Extraction(documents, []), [], CollectSettings(min_characters=1))
    assert [row["answer"] for row in made.rows] == twice
    assert [each.dropped for each in made.outcomes] == [{"repeated boilerplate": 1}] * 3


def test_each_sentence_is_answered_by_the_next() -> None:
    """Over the border of paragraphs and sections; a listing and a table are passed over."""
    document = _document(
        _section("A. One is first. Is two next?", "```\nNo. Code. Here.\n```", "- Three!"),
        _section("| No. | table. |", "Four.", path=("3. End",)),
    )
    pairs, _ = pair_sentences(document)
    assert [(pair.question, pair.answer, pair.heading) for pair in pairs] == [
        ("A. One is first.", "Is two next?", "2. Lists"),
        ("Is two next?", "Three!", "2. Lists"),
        ("Three!", "Four.", "2. Lists"),
    ]
    assert {pair.method for pair in pairs} == {"sentences"}
    assert len({pair.id for pair in pairs}) == 3


@pytest.mark.parametrize(
    ("paragraph", "sentences"),
    [
        ("Use e.g. This one. Done.", ["Use e.g. This one.", "Done."]),
        (
            "O Sr. João chegou às 3.5 horas. É tarde!",
            ["O Sr. João chegou às 3.5 horas.", "É tarde!"],
        ),
        ("Ele disse “sim.” Ela riu.", ["Ele disse “sim.”", "Ela riu."]),
        ("¿Qué? ¡Sí! `x` is it.", ["¿Qué?", "¡Sí!", "`x` is it."]),
        ("Vale etc.) é claro... ou não.", ["Vale etc.) é claro... ou não."]),
        ("...", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(paragraph: str, sentences: list[str]) -> None:
    """Abbreviations, decimals, quotes, marks that open a sentence, nothing but dots."""
    assert list(split_sentences(paragraph)) == sentences


def test_documents_are_rows_of_their_own() -> None:
    """One row per page, with its sections as Markdown."""
    documents = [(_document(_section("One.", "Two.")), False)]
    settings = CollectSettings(rows="documents", min_characters=1)
    made = make_rows(Extraction(documents, []), [], settings)
    assert made.rows == [
        {
            "source": "a.html",
            "title": "Guide",
            "language": None,
            "sections": [{"heading": ["2. Lists"], "level": 1, "text": "One.\n\nTwo."}],
        }
    ]
