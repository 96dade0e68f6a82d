"""What the columns of a source hold, and which unused ones say the question again.

A column that rewords the question is a trap: the same rows serve as a paraphrase elsewhere, and
then stand on both sides. It is looked for by words, case and accents folded, in one pass.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from retune.data.findings import ColumnFinding
from retune.data.formats.cells import kind_of

_WORD = re.compile(r"\w+")
_MOST_COLUMNS = 200
_LEAST_WORDS = 3


@dataclass
class _Column:
    filled: int = 0
    types: Counter[str] = field(default_factory=Counter)
    rewords: int = 0
    repeats: int = 0


class ColumnCounter:
    """Counts, row by row, what stands under each key.

    Args:
        used: Returns what a key is used as; None where it is not.
    """

    def __init__(self, used: Callable[[str], str | None]) -> None:
        self._uses = used
        self._used: dict[str, str | None] = {}
        self._columns: dict[str, _Column] = {}

    def add(self, row: Mapping[str, Any], question: str) -> None:
        """Count a row.

        Args:
            row: The row as it stands in its source.
            question: Its question in the one layout; empty where it has none.
        """
        asked: list[str] | None = None
        for key, value in row.items():
            column = self._columns.get(key)
            if column is None:
                if len(self._columns) >= _MOST_COLUMNS:
                    continue
                column = self._columns[key] = _Column()
                self._used[key] = self._uses(key)
            column.types[kind_of(value)] += 1
            if value is None or value in ("", [], {}):
                continue
            column.filled += 1
            if self._used[key] is not None or not question or not _may_reword(value, question):
                continue
            asked = asked or _words(question)
            self._compare(column, _words(value), asked)

    def findings(self) -> list[ColumnFinding]:
        """Return what was found, in the order in which the columns first stood."""
        return [
            ColumnFinding(
                name=name.encode("utf-8", "backslashreplace").decode("utf-8"),
                used_as=self._used[name],
                filled=column.filled,
                types=dict(column.types.most_common()),
                rewords_question=column.rewords,
                repeats_question=column.repeats,
            )
            for name, column in self._columns.items()
        ]

    @staticmethod
    def _compare(column: _Column, said: list[str], asked: list[str]) -> None:
        if said == asked:
            column.repeats += 1
            return
        words = set(said)
        # A name of one or two words shares half of them with many a question by chance.
        if len(words) >= _LEAST_WORDS and len(words & set(asked)) * 2 >= len(words):
            column.rewords += 1


def _may_reword(value: Any, question: str) -> bool:
    # A text several times as long cannot share half of its words with the question.
    return isinstance(value, str) and len(value) <= 4 * len(question) + 40


def _words(text: str) -> list[str]:
    if text.isascii():
        return _WORD.findall(text.lower())
    plain = unicodedata.normalize("NFKD", text.casefold())
    return _WORD.findall("".join(sign for sign in plain if not unicodedata.combining(sign)))
