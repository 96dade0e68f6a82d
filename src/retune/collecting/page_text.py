"""Text of a page as it is counted: every letter of it is kept, or left out for a reason."""

from __future__ import annotations

import re

# Why text of a page gives no row. These were never meant to be read as the page's own words ...
SCRIPT = "script, style or head"
HIDDEN = "hidden"
NAVIGATION_TEXT = "navigation"
LINKS = "list of links"
CONTROLS = "buttons and forms"
CHROME = "banners, sharing, comments"
PICTURES = "pictures and players"
NOSCRIPT = "for browsers without scripts"
LINE_NUMBERS = "line numbers and buttons of listings"
MARKUP = "markup"
FRONT_MATTER = "front matter"
# ... and these were.
NOTES = "footnotes"
OUTSIDE = "outside the main content"
UNREAD = "nested too deeply to be read"

NEVER_CONTENT = frozenset(
    {
        *(SCRIPT, HIDDEN, NAVIGATION_TEXT, LINKS, CONTROLS, CHROME, PICTURES, NOSCRIPT),
        *(LINE_NUMBERS, MARKUP, FRONT_MATTER),
    }
)
"""Reasons that cost nothing: what goes for them is no loss of the page's own text."""

# Tab, line feed and carriage return are text; soft hyphens and byte-order marks are not.
_UNSEEN = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160), 0xAD, 0xFEFF])
_SPACE = re.compile(r"[ \t\n\r\f]+")


def clean(text: str) -> str:
    """Return text without characters that nobody sees."""
    return text.translate(_UNSEEN)


def fold_spaces(text: str) -> str:
    """Return text with HTML's white space folded; a no-break space is a character and stays."""
    return _SPACE.sub(" ", text)


def letters(text: str) -> int:
    """Count characters without white space and without those that nobody sees."""
    return sum(map(len, clean(text).split()))
