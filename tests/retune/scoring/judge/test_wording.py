"""How a judge is asked, and how its verdict is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from retune.errors import ConfigError
from retune.recipe.sections.judge import JudgeLanguage
from retune.scoring.judge.wording import Pair, Wording, locate_wording, read_verdict

PAIR = Pair("Why?", "Because of {answer_b}.", "No idea. [[A]]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[A]]", "a"),
        ("B says more.\n[[b]]", "b"),
        ("[[Empate]]", "tie"),
        ("[[C]]", "tie"),
        ("First I thought [[A]], but [[B]] is right: [[B]]", "b"),
        ("A", "a"),
        ("**B**.", "b"),
        ("tie", "tie"),
        ("A better question is asked.", None),
        ("Both are fine.", None),
        ("", None),
    ],
)
def test_a_verdict_is_the_last_one_in_brackets_or_stands_alone(
    text: str, expected: str | None
) -> None:
    """A letter within a sentence is no verdict."""
    assert read_verdict(text) == expected


@pytest.mark.parametrize(("language", "word"), [("en", "[[tie]]"), ("pt", "[[empate]]")])
def test_what_ships_shows_both_answers_as_they_are(language: JudgeLanguage, word: str) -> None:
    """An answer that holds a place's name, or a verdict, is shown letter by letter."""
    asked = Wording(locate_wording(None, language), language, "be brief").ask(PAIR)
    for text in ("Why?", "Because of {answer_b}.", "No idea. [[A]]", "be brief", word):
        assert text in asked
    assert "{question}" not in asked and "{rubric}" not in asked
    assert asked.index(PAIR.first) < asked.index(PAIR.second)


def test_the_second_question_holds_the_first(tmp_path: Path) -> None:
    """It is asked anew as a whole, since the endpoint remembers nothing."""
    path = tmp_path / "own.txt"
    path.write_text("{question}|{answer_a}|{answer_b}", "utf-8")
    wording = Wording(locate_wording(path, "en"), "en", None)
    assert wording.ask(PAIR) == "Why?|Because of {answer_b}.|No idea. [[A]]"
    assert wording.ask_again(PAIR).startswith(wording.ask(PAIR) + "\n\nWrite nothing but")


def test_a_question_that_hides_an_answer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("{question} {answer_a}", "utf-8")
    with pytest.raises(ConfigError, match=r"has no \{answer_b\}"):
        locate_wording(path, "en")
    with pytest.raises(ConfigError, match="is no file"):
        locate_wording(tmp_path / "absent.txt", "en")
