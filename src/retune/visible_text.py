"""Texts of others as a terminal or a page may show them: what steers a screen is written out."""

from __future__ import annotations

import re

_STEERING = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f"  # C0 but tab and line feed: escape, bell, backspace, carriage return
    "\x80-\x9f"  # C1: one-sign beginnings of the same sequences
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that turn the order of letters
    "\u2028\u2029\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"  # letters that nothing shows
    "]"
)


def visible(text: str) -> str:
    r"""Write control signs and marks of direction as their escapes.

    Args:
        text: Of a row, a label, a model's answer, a file's name.

    Returns:
        The text, in which ``\x1b`` and ``\u202e`` stand as letters; line feeds and tabs stay.
    """
    return _STEERING.sub(lambda sign: ascii(sign[0])[1:-1], text)
