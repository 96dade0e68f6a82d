"""Looks at single texts: characters, languages, lengths."""

import numpy as np
import pytest

from retune.data.quality.languages import LanguageFinder
from retune.data.quality.lengths import count_lengths, even_edges, measure_counts, round_edges
from retune.data.quality.unprintable import find_unprintable
from retune.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("bom\ndia\tà\r\ntodos ", set()),
        ("nulo\x00", {"control"}),
        ("\x93aspas\x94", {"control"}),  # Windows-1252 read as Latin-1
        ("a\ufffdo", {"replacement"}),
        ("\ue001", {"private use"}),
        ("\u0378", {"unassigned"}),
        (
            "👩🏾\u200d💻 \U0001fae8",
            set(),
        ),  # joined emoji, and one younger than Python 3.11's tables
        ("a\ufffd\x01", {"replacement", "control"}),
        ("\u00a0\u2009\u00ad", set()),  # spaces and soft hyphens are text
    ],
)
def test_unprintable_characters(text: str, kinds: set[str]) -> None:
    """Kinds are named; wanted white space, emoji and joiners are none."""
    assert find_unprintable(text) == kinds


def test_languages_are_told() -> None:
    """Sentences are told apart; short texts are not guessed."""
    finder = LanguageFinder()
    assert finder.find("Quais são os nomes de todos os alunos da escola?") == "pt"
    assert finder.find("What are the names of all students of the school?") == "en"
    assert finder.find("kkkkk sim") == "und"
    assert finder.find("@usuario_muito_comprido https://exemplo.com/um/caminho/longo") == "und"


def test_unknown_language_is_refused() -> None:
    """A code that the model does not know says so."""
    with pytest.raises(ConfigError, match=r"quality\.languages: xx"):
        LanguageFinder(["xx"])


def test_lengths_by_hand() -> None:
    """0, 1, 3 and 12 characters: mean 4, and one row in four bins."""
    found = measure_counts(count_lengths([np.array([0, 1, 3, 12])]), round_edges(12))
    assert found.mean == 4
    assert found.edges == (0, 1, 2, 5, 10, 20)
    assert found.counts == (1, 1, 1, 0, 1)
    # Nearest length below: of four values, the 50th percentile lies between the second and third.
    assert found.percentiles == {"min": 0, "p5": 0, "p50": 1, "p95": 3, "p99": 3, "max": 12}


def test_even_edges_by_hand() -> None:
    """From 1 to above 4 no more than four bins of whole numbers fit; from 0 to 39, 20 of two."""
    assert even_edges(np.array([4, 1, 3, 2])) == [1, 2, 3, 4, 5]
    assert even_edges(np.array([0, 39])) == list(range(0, 41, 2))


@pytest.mark.parametrize("longest", [0, 1, 2, 5, 9, 10, 999, 1000])
def test_edges_hold_the_longest(longest: int) -> None:
    """The last edge lies above the longest, so that no bin is closed on both sides."""
    edges = round_edges(longest)
    assert edges[-1] > longest
    assert edges == sorted(set(edges))
