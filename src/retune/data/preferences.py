"""Reading pairs of answers: to one prompt, one that is wanted and one that is not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retune.data.formats.preferences import PairFields, read_pair
from retune.data.parts.splitting import choose_side
from retune.data.reading.files import read_files
from retune.data.reading.locating import locate_source, refuse_ending
from retune.errors import DataError
from retune.records import Source

_SHOWN = 5
_LONGEST_BYTES = 1 << 26


@dataclass(frozen=True)
class Preference(PairFields):
    """Two answers to one prompt: `chosen` is to become likelier, `rejected` the other one.

    Attributes:
        line: Where it stands in its file, from 1.
    """

    line: int

    @property
    def prompt_name(self) -> str:
        """The prompt as one text: what pairs of one prompt have in common."""
        # Without a context the name is as it always was: it decides on the pair's side.
        asked = [self.question, self.context] if self.context else [self.question]
        return json.dumps([*self.history, *asked], ensure_ascii=False, sort_keys=True)


def locate_preferences(path: Path, encoding: str | None = None) -> Source:
    """Find the file of pairs, and see that every line is a pair.

    Args:
        path: The file, absolute.
        encoding: What it is in; None for UTF-8.

    Returns:
        The file and its digest.

    Raises:
        DataError: It is missing, empty or of an unknown kind, or lines are no pairs; the message
            names the first ones.
    """
    source = locate_source(path, "dpo.pairs")
    refuse_ending(path, "dpo.pairs")
    read_preferences(path, encoding)
    return source


def read_preferences(path: Path, encoding: str | None = None) -> list[Preference]:
    """Read a file of pairs as a whole.

    Args:
        path: A file of rows of any kind: a prompt, a chosen and a rejected answer, in one of the
            layouts of `formats.preferences`.
        encoding: What it is in; None for UTF-8.

    Returns:
        The pairs, in the order of the file.

    Raises:
        DataError: There is no pair, or a line is none; the message names the first lines.
    """
    pairs: list[Preference] = []
    wrong: list[str] = []
    for row in read_files([path], _LONGEST_BYTES, encoding):
        try:
            if row.value is None:
                raise DataError(row.reason)
            pairs.append(_read_pair(row.line, row.value))
        except DataError as error:
            wrong.append(f"{path}:{row.line}: {error}")
    refuse_lines(wrong, "are no pairs", len(pairs) + len(wrong), "Mend or delete them.")
    if not pairs:
        raise DataError(f"dpo.pairs: {path} holds no pairs.")
    return pairs


def refuse_lines(wrong: list[str], what: str, of: int, instead: str) -> None:
    """Refuse a file of pairs for some of its lines.

    Args:
        wrong: One line of text per wrong line of the file, which names it.
        what: What they are.
        of: How many lines there are.
        instead: What to do.

    Raises:
        DataError: There are wrong lines.
    """
    if wrong:
        shown = "\n".join(f"  {each}" for each in wrong[:_SHOWN])
        more = f"\n  and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise DataError(f"dpo.pairs: {len(wrong)} of {of} lines {what}. {instead}\n{shown}{more}")


def is_held_back(pair: Preference, validation_fraction: float) -> bool:
    """Say whether a pair is for measuring, by its prompt alone: no other pair can move it."""
    side = choose_side(
        pair.prompt_name, seed=0, validation_fraction=validation_fraction, test_fraction=0.0
    )
    return side == "validation"


def _read_pair(line: int, row: dict[str, Any]) -> Preference:
    found = read_pair(row)
    return Preference(**vars(found), line=line)
