"""Characters that no text should hold: traces of wrong encodings and of binary data."""

from __future__ import annotations

import unicodedata

KINDS = ("control", "replacement", "private use", "unassigned")
_WANTED = {ord(c): None for c in "\n\t\r"}
# Emoji are younger than Python's Unicode tables: what they do not know there is no fault.
_EMOJI = range(0x1F000, 0x1FB00)


def find_unprintable(text: str) -> frozenset[str]:
    """Name the kinds of unprintable characters in a text.

    Args:
        text: Any text; line feeds, tabs and carriage returns are wanted.

    Returns:
        Some of `KINDS`: control characters, U+FFFD (what a decoder puts for broken bytes), private
        use, and code points that no character has.
    """
    printable = text.translate(_WANTED)
    if printable.isprintable() and "\ufffd" not in printable:
        return frozenset()
    kinds = {_kind(character) for character in set(printable)}
    return frozenset(kind for kind in kinds if kind)


def _kind(character: str) -> str | None:
    if character == "\ufffd":
        return "replacement"
    category = unicodedata.category(character)
    if category == "Cn":
        return None if ord(character) in _EMOJI else "unassigned"
    return {"Cc": "control", "Co": "private use"}.get(category)
