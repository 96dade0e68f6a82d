"""What two texts may differ in and still be equal: one function for each thing that is ignored.

They are applied in one order, whatever the order of the recipe: case, numbers, accents,
punctuation, articles. White space never counts.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Collection

from retune.recipe.sections.scoring import TextNormaliser

_PORTUGUESE = re.compile(r"\b(?:o|a|os|as|um|uma|uns|umas)\b", re.IGNORECASE)
_ENGLISH = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?![\w]|[.,]\d)")
_DECIMAL_POINT = re.compile(r"(?<=\d)\.(?=\d)")
_KEPT_POINT = "\ue000"
"""A decimal point while signs are taken out: a character for private use, in no text."""
_GROUP_DIGITS = 3

# Scripts that put no blank between words: each character of these counts as a word.
_UNSPACED = re.compile(
    r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f])"
)


def normalise(text: str, ignored: Collection[TextNormaliser]) -> str:
    """Take out of a text what shall not count.

    Args:
        text: Any text.
        ignored: What is not looked at.

    Returns:
        The text, with single blanks between its words.

    Example:
        >>> normalise("O preço é R$ 1.234,50!", ["case", "numbers", "punctuation", "articles_pt"])
        'preço é r 1234.5'
    """
    for name, apply in _ORDER.items():
        if name in ignored:
            text = apply(text)
    return " ".join(text.replace(_KEPT_POINT, ".").split())


def split_words(text: str) -> list[str]:
    """Split a text at its white space; of Chinese and Japanese each character is a word.

    Args:
        text: Normalised, or as it stands.

    Example:
        >>> split_words("a praia 東京")
        ['a', 'praia', '東', '京']
    """
    return _UNSPACED.sub(r" \1 ", text).split()


def plain_number(written: str) -> str:
    """Write a number without separators of thousands, with a decimal point.

    With both separators the last one is the decimal one. One that stands several times, or once
    before exactly three digits behind one to three that do not begin with 0, parts thousands: what
    `1.234` means, Portuguese and English say otherwise, and whole numbers are the more frequent.

    Args:
        written: Digits with points and commas between them.

    Example:
        >>> [plain_number(each) for each in ("1.234,50", "1,234.5", "1.234", "2,50", "0.125")]
        ['1234.5', '1234.5', '1234', '2.5', '0.125']
    """
    signs = [sign for sign in written if sign in ".,"]
    if not signs:
        return written
    decimal = "" if _parts_thousands(written, signs) else signs[-1]
    whole, _, fraction = written.rpartition(decimal) if decimal else (written, "", "")
    digits = re.sub(r"[.,]", "", whole)
    fraction = fraction.rstrip("0")
    return f"{digits}.{fraction}" if fraction else digits


def _parts_thousands(written: str, signs: list[str]) -> bool:
    if len(set(signs)) > 1:
        return False
    first, *groups = written.split(signs[0])
    if len(groups) > 1:
        return True
    return len(groups[0]) == _GROUP_DIGITS and len(first) <= _GROUP_DIGITS and first[0] != "0"


def _plain_numbers(text: str) -> str:
    found = _NUMBER.sub(lambda match: plain_number(match[0]), text)
    return _DECIMAL_POINT.sub(_KEPT_POINT, found)


def _without_accents(text: str) -> str:
    plain = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in plain if not unicodedata.combining(c)))


def _without_punctuation(text: str) -> str:
    """Take out punctuation of all scripts, and the signs of ASCII, as SQuAD's script does."""
    return "".join(
        sign
        for sign in text
        if sign not in string.punctuation and not unicodedata.category(sign).startswith("P")
    )


_ORDER: dict[TextNormaliser, Callable[[str], str]] = {
    "case": str.lower,
    "numbers": _plain_numbers,
    "accents": _without_accents,
    "punctuation": _without_punctuation,
    "articles_pt": lambda text: _PORTUGUESE.sub(" ", text),
    "articles_en": lambda text: _ENGLISH.sub(" ", text),
}
