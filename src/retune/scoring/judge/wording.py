"""How a judge is asked, and how its verdict is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

from retune.digests import digest_file
from retune.errors import ConfigError
from retune.recipe.sections.judge import JudgeLanguage
from retune.records import Source
from retune.text_files import BYTE_ORDER_MARK

Verdict = Literal["a", "b", "tie"]

KEY = "judge.prompt"
_FOLDER = Path(__file__).with_name("questions")
_NEEDED = ("question", "answer_a", "answer_b")
_PLACE = re.compile(r"\{(question|answer_a|answer_b|rubric)\}")
_MARKED = re.compile(r"\[\[\s*(a|b|c|tie|empate)\s*\]\]", re.IGNORECASE)
_ALONE = re.compile(r"[\s\[\](){}\"'*_.:]*(a|b|tie|empate)[\s\[\](){}\"'*_.:]*", re.IGNORECASE)
_VERDICTS: dict[str, Verdict] = {"a": "a", "b": "b"}

_RUBRIC: dict[JudgeLanguage, str] = {
    "en": "it does what was asked, what it says is true, and it has nothing that is not needed.",
    "pt": "faz o que foi pedido, o que diz é verdade, e não tem nada que não seja necessário.",
}
_AGAIN: dict[JudgeLanguage, str] = {
    "en": "Write nothing but your verdict: [[A]], [[B]] or [[tie]].",
    "pt": "Escreva apenas o veredito: [[A]], [[B]] ou [[empate]].",
}


class Pair(NamedTuple):
    """Two answers to one question.

    Attributes:
        question: What was asked.
        first: The answer that is shown as A.
        second: The answer that is shown as B.
    """

    question: str
    first: str
    second: str

    @property
    def turned(self) -> Pair:
        """The same in the other order."""
        return Pair(self.question, self.second, self.first)


def locate_wording(path: Path | None, language: JudgeLanguage) -> Source:
    """Find the text that a judge is asked by.

    Args:
        path: A file of the team's own, absolute; None for the one that comes with retune.
        language: Of the one that comes with retune.

    Returns:
        The file, known by its content.

    Raises:
        ConfigError: There is no such file, or it does not show the question or an answer.
    """
    if path is None:
        shipped = _FOLDER / f"{language}.txt"
        return Source(digest=digest_file(shipped), path=shipped)
    if not path.is_file():
        raise ConfigError(
            f"{KEY}: {path} is no file. Expected a text with {{question}}, {{answer_a}} and "
            "{answer_b}; relative paths start at the project root."
        )
    found = set(_PLACE.findall(_read(path)))
    absent = [f"{{{name}}}" for name in _NEEDED if name not in found]
    if absent:
        raise ConfigError(
            f"{KEY}: {path} has no {', '.join(absent)}, so the judge would not see what it is to "
            "compare. Write each where it belongs."
        )
    return Source(digest=digest_file(path), path=path)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().removeprefix(BYTE_ORDER_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{KEY}: {path} is not UTF-8 ({error.reason}). Save it so.") from error


class Wording:
    """Writes questions to a judge.

    Args:
        source: From `locate_wording`.
        language: Of the default rubric, and of the second question.
        rubric: What makes an answer better; None for what comes with retune.
    """

    def __init__(self, source: Source, language: JudgeLanguage, rubric: str | None) -> None:
        self._text = _read(source.path)
        self._rubric = rubric or _RUBRIC[language]
        self._again = _AGAIN[language]

    def ask(self, pair: Pair) -> str:
        """Return the question on a pair."""
        shown = {
            "question": pair.question,
            "answer_a": pair.first,
            "answer_b": pair.second,
            "rubric": self._rubric,
        }
        # In one pass: an answer that holds {answer_b} is shown as it is.
        return _PLACE.sub(lambda found: shown[found[1]], self._text)

    def ask_again(self, pair: Pair) -> str:
        """Return what is asked where the first answer was no verdict."""
        return f"{self.ask(pair).rstrip()}\n\n{self._again}\n"


def read_verdict(text: str) -> Verdict | None:
    """Read the verdict out of what a judge wrote.

    Args:
        text: With reasons before the verdict, or the verdict alone.

    Returns:
        What stands in the last double brackets, or a text that is nothing but a verdict; None for
        any other.

    Example:
        >>> read_verdict("A is [[A]]? No: B says more. [[B]]")
        'b'
    """
    marked = _MARKED.findall(text)
    alone = _ALONE.fullmatch(text)
    word = marked[-1] if marked else alone[1] if alone else None
    return None if word is None else _VERDICTS.get(word.lower(), "tie")
