"""Telling what divides the fields of a table: by its header, and by the rows below it."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import NamedTuple

from retune.errors import DataError

_DELIMITERS = (",", ";", "\t", "|")
_OTHERS = "^~¦§\x01\x1f"
_STATED = re.compile(r"sep=(.)\s*\Z", re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_NAMES = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a vertical bar"}


class Dialect(NamedTuple):
    """How the fields of a table are divided."""

    delimiter: str
    blanks_after: bool = False
    """Whether a blank follows each delimiter, and belongs to no field."""
    stated: bool = False
    """Whether the first line says so (`sep=;`, as Excel writes it) and is no header."""

    @property
    def name(self) -> str:
        """What divides the fields, in words."""
        return _NAMES.get(self.delimiter, repr(self.delimiter))


def tell_dialect(lines: Sequence[str], usual: str) -> Dialect:
    """Tell what divides the fields of a table.

    Args:
        lines: Its first lines, without blank ones.
        usual: What is taken where nothing tells.

    Returns:
        The delimiter under which most rows have as many fields as the header.

    Raises:
        DataError: All fields seem to be divided by a sign that is none of those that are read.
    """
    if not lines:
        return Dialect(usual)
    stated = _STATED.match(lines[0])
    if stated:
        return Dialect(stated.group(1), stated=True)
    header = _QUOTED.sub("", lines[0])
    scores = {sign: _score(lines, sign) for sign in _DELIMITERS if sign in header}
    if not scores:
        _refuse_other_sign(lines)
        return Dialect(usual)
    best = max(scores, key=lambda sign: scores[sign])
    blanks = best != "\t" and header.count(best) == header.count(f"{best} ")
    return Dialect(best, blanks_after=blanks)


def _score(lines: Sequence[str], sign: str) -> tuple[float, int]:
    """Return the share of rows with the header's number of fields, and that number."""
    try:
        # The last row may be cut off in the middle.
        rows = [row for row in csv.reader(lines, delimiter=sign) if row]
    except csv.Error:
        return (0.0, lines[0].count(sign))
    width, below = len(rows[0]) if rows else 0, rows[1:-1] or rows[1:]
    share = sum(len(row) == width for row in below) / len(below) if below else 1.0
    return (round(share, 1), width)


def _refuse_other_sign(lines: Sequence[str]) -> None:
    below = lines[1:]
    for sign in _OTHERS:
        count = lines[0].count(sign)
        if count and below and all(line.count(sign) == count for line in below):
            known = ", ".join(_NAMES.values())
            raise DataError(f"fields seem to be divided by {sign!r}; expected one of {known}")
