"""Typing errors: a neighbouring key, two letters changed over, one left out, one doubled.

Only words of four letters or more, never their first letter, never digits or signs: short words and
numbers become other words and numbers, which is another question.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")  # also of ABNT2, the Brazilian keyboard
_WORD = re.compile(r"[^\W\d_]{4,}")

Draw = Callable[..., int]
"""Maps any parts to a number that depends on them (and seed and text) alone."""


def add_typos(text: str, rate: float, draw: Draw) -> str:
    """Mistype some letters.

    Args:
        text: Any text.
        rate: Part of the letters that may be mistyped, over 0 to 1; at least one is.
        draw: Says which and how.

    Returns:
        The text, unchanged when it has no word of four letters.
    """
    places = [at for word in _WORD.finditer(text) for at in range(word.start() + 1, word.end())]
    if not places:
        return text
    count = max(1, round(rate * len(places)))
    chosen = sorted(places, key=lambda at: draw("place", at))[:count]
    letters = list(text)
    for at in chosen:
        ways = _mistyped(text[at - 1], text[at])
        letters[at] = ways[draw("way", at) % len(ways)]
    free = set(places) - set(chosen)
    for at in chosen:
        # Two letters change over only where the one before may be changed and was left alone.
        if at - 1 in free and text[at - 1] != text[at] and draw("over", at) % 4 == 0:
            letters[at - 1], letters[at] = text[at], text[at - 1]
    return "".join(letters)


def _mistyped(before: str, letter: str) -> list[str]:
    ways = [letter * 2]
    if before != letter:
        ways.append("")  # one of two equal letters left out is the likeliest slip, but no new one
    for row in _ROWS:
        at = row.find(letter.lower())
        if at >= 0:
            beside = row[max(0, at - 1) : at] + row[at + 1 : at + 2]
            ways += [key.upper() if letter.isupper() else key for key in beside]
    return ways
