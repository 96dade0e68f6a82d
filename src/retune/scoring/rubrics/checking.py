"""What each rubric says of an answer.

An answer that a rubric cannot judge (its pattern took too long, its language cannot be told) is
unscored for that rubric, with a reason, and counts neither way.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from retune.asked_processes import AskedProcess
from retune.data.quality.languages import UNDETERMINED, LanguageFinder
from retune.recipe.sections.rubrics import (
    CitationsRubric,
    LanguageRubric,
    LengthRubric,
    RefusalRubric,
    RubricConfig,
    figure_name,
)
from retune.scoring.rubrics.refusals import REFUSALS, REFUSED_WITHIN
from retune.scoring.rubrics.worker import main
from retune.scoring.words import find_words

_SOURCE_ROOT = Path(__file__).resolve().parents[3]
# As for queries (`retune.sql.sandbox`), but with the packages that a JSON schema takes.
_PATHS = [str(_SOURCE_ROOT), *(each for each in sys.path if each.endswith("-packages"))]
_BOOT = f"import sys; sys.path += {_PATHS!r}; from {main.__module__} import main; main()"
_MEMORY_BYTES = 1 << 30
SECONDS = 2.0
"""Of processor time that one answer may take."""
_BUSY_MACHINE = 20
MOST_LATE = 10
"""Answers of one rubric that may take longer, until it is given up: each costs that time."""
_REFERENCE = re.compile(r"\[(\d{1,4})\]")
_QUOTE = re.compile(r"“([^”]{1,2000})”|«([^»]{1,2000})»|\"([^\"]{1,2000})\"")
_QUOTED_WORDS = 3
"""Fewest of a quotation: shorter spans in quotation marks are names and emphasis."""


class Verdict(NamedTuple):
    """What a rubric says of an answer.

    Attributes:
        passed: Whether it keeps to the rule; None where that could not be said.
        reason: Why it does not, or why that could not be said.
    """

    passed: bool | None
    reason: str = ""


class Written(NamedTuple):
    """One answer, and what it was written for.

    Attributes:
        text: The answer.
        prompt: All that the model was given.
    """

    text: str
    prompt: str


class RubricChecker:
    """Checks answers one after the other; a context manager, which ends its process.

    Args:
        rubrics: The rules.

    Raises:
        ConfigError: A language cannot be recognised.
    """

    def __init__(self, rubrics: Sequence[RubricConfig]) -> None:
        self._rubrics = {figure_name(each): each for each in rubrics}
        codes = {
            code for each in rubrics if isinstance(each, LanguageRubric) for code in each.languages
        }
        self._languages = LanguageFinder(codes)
        self._late: Counter[str] = Counter()
        self._process = AskedProcess(
            [
                *(sys.executable, "-I", "-S", "-c", _BOOT),
                *(str(_MEMORY_BYTES), str(os.getpid())),
            ],
            name="The process that checks answers",
            environment={},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()

    def check(self, written: Written) -> dict[str, Verdict]:
        """Return what every rubric says of an answer, by the name of its figure."""
        return {name: self._check(name, each, written) for name, each in self._rubrics.items()}

    def _check(self, name: str, rubric: RubricConfig, written: Written) -> Verdict:
        if isinstance(rubric, LengthRubric):
            return check_length(rubric, written.text)
        if isinstance(rubric, LanguageRubric):
            return check_language(rubric, written.text, self._languages.find)
        if isinstance(rubric, RefusalRubric):
            return check_refusal(rubric, written.text)
        if isinstance(rubric, CitationsRubric):
            return check_citations(rubric, written)
        return self._ask(name, rubric.kind, rubric.model_dump(mode="json"), written.text)

    def _ask(self, name: str, kind: str, rule: dict[str, Any], text: str) -> Verdict:
        if self._late[name] >= MOST_LATE:
            return Verdict(None, "given_up")
        reply = self._process.exchange(
            {"kind": kind, "rule": rule, "text": text},
            seconds=SECONDS,
            clock_seconds=_BUSY_MACHINE * SECONDS,
        )
        if reply["status"] == "ok":
            return Verdict(bool(reply["passed"]), reply["reason"])
        self._late[name] += reply["status"] == "timeout"
        return Verdict(None, reply["status"])


def check_length(rubric: LengthRubric, text: str) -> Verdict:
    """Count characters or words.

    Example:
        >>> check_length(LengthRubric(kind="length", at_most=2), "um dois três")
        Verdict(passed=False, reason='3 words')
    """
    found = len(text.split()) if rubric.unit == "words" else len(text.strip())
    low = rubric.at_least is None or found >= rubric.at_least
    high = rubric.at_most is None or found <= rubric.at_most
    return Verdict(low and high, "" if low and high else f"{found} {rubric.unit}")


def check_language(rubric: LanguageRubric, text: str, find: Callable[[str], str]) -> Verdict:
    """Guess the language.

    Args:
        rubric: Which ones are right.
        text: The answer.
        find: Guesses.
    """
    if not text.strip():
        return Verdict(False, "nothing written")
    found = find(text)
    if found == UNDETERMINED:
        return Verdict(None, "undetermined")
    return Verdict(found in rubric.languages, "" if found in rubric.languages else found)


def check_refusal(rubric: RefusalRubric, text: str) -> Verdict:
    """Look for words that refuse where an answer begins.

    Example:
        >>> check_refusal(RefusalRubric(kind="refusal"), "Desculpe, não posso ajudar com isso.")
        Verdict(passed=False, reason='não posso ajudar')
    """
    found = find_words(rubric.phrases or REFUSALS, text[:REFUSED_WITHIN])
    if bool(found) == rubric.wanted:
        return Verdict(True)
    return Verdict(False, found[0] if found else "no refusal")


def check_citations(rubric: CitationsRubric, written: Written) -> Verdict:
    """Look for each quotation and reference in the prompt, case and white space passed over.

    Example:
        >>> rubric = CitationsRubric(kind="citations")
        >>> check_citations(rubric, Written("Yes [2].", "[1] Tea is sold. What is sold?"))
        Verdict(passed=False, reason='[2] is not in the prompt')
    """
    prompt, cited = _folded(written.prompt), []
    if rubric.of != "quotes":
        cited += [f"[{number}]" for number in _REFERENCE.findall(written.text)]
    if rubric.of != "references":
        quotes = ("".join(found) for found in _QUOTE.findall(written.text))
        cited += [each for each in quotes if len(each.split()) >= _QUOTED_WORDS]
    if not cited:
        return Verdict(not rubric.required, "cites nothing" if rubric.required else "")
    absent = next((each for each in cited if _folded(each) not in prompt), None)
    return Verdict(absent is None, "" if absent is None else f"{absent:.100} is not in the prompt")


def _folded(text: str) -> str:
    # A comma before the closing mark is the quoting sentence's.
    return " ".join(text.split()).casefold().strip(" .,;:")
