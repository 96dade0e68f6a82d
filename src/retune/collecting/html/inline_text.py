"""Text between two blocks, with inline Markdown; prose is not escaped, since a model reads it."""

from __future__ import annotations

import re
from typing import Any

from retune.collecting.html.elements import BLOCKS
from retune.collecting.page_text import clean, fold_spaces, letters

_MARKS = {
    **dict.fromkeys(("b", "strong"), "**"),
    **dict.fromkeys(("i", "em"), "*"),
    **dict.fromkeys(("code", "tt", "samp"), "`"),
    "sup": "^",
}
_AROUND_BREAK = re.compile(r" *\n *")
_SPACES = re.compile(r" {2,}")
_PARAGRAPH = re.compile(r"\n{2,}")
# 10<sup>3</sup> is no 103; 1<sup>st</sup>, n<sup>o</sup> and a trademark are as they look.
_EXPONENT = re.compile(r"[+\-−–]?\d[\d.,/]*[a-z]?|[+\-−–]|[b-np-zA-Z]|[+\-−–][a-zA-Z0-9]{1,3}")


class InlineText:
    """Gathers text until a block ends."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._open: list[tuple[Any, int, str]] = []
        self._letters = 0

    def add(self, text: str) -> None:
        """Append a text node."""
        self._pieces.append(fold_spaces(clean(text)))
        self._letters += letters(text)

    def space(self) -> None:
        """Keep words apart."""
        self._pieces.append(" ")

    def start(self, element: Any) -> None:
        """Begin an inline element."""
        if element.tag == "br":
            self._pieces.append("\n")
            return
        mark = _MARKS.get(element.tag, "")
        # A mark inside of the same one would end it, and code has no marks but its own.
        if mark and not any(each in {mark, "`"} for _, _, each in self._open):
            self._open.append((element, len(self._pieces), mark))

    def start_in_heading(self, element: Any) -> None:
        """Begin an element inside of a heading, which is plain text."""
        if element.tag == "br" or element.tag in BLOCKS:
            self.space()

    def end(self, element: Any) -> None:
        """End an inline element: what stands in it gets its marks."""
        if not self._open or self._open[-1][0] is not element:
            return
        _, start, mark = self._open.pop()
        inner = "".join(self._pieces[start:])
        before = "".join(self._pieces[max(0, start - 3) : start])
        self._pieces[start:] = [_raised(inner, before) if mark == "^" else _marked(inner, mark)]

    def take(self) -> tuple[list[str], int]:
        """Return the paragraphs since the last time, and how many letters of the page they hold."""
        text = _SPACES.sub(" ", _AROUND_BREAK.sub("\n", "".join(self._pieces)))
        found = (part.strip(" \n") for part in _PARAGRAPH.split(text))
        count = self._reset()
        return [part for part in found if part.strip().strip("`").strip()], count

    def take_plain(self) -> tuple[str, int]:
        """Return the text as one line."""
        text = _SPACES.sub(" ", "".join(self._pieces).replace("\n", " "))
        return text.strip(" \u200b"), self._reset()

    def _reset(self) -> int:
        count, self._letters = self._letters, 0
        self._pieces = []
        self._open = [(element, 0, mark) for element, _, mark in self._open]
        return count


def _marked(inner: str, mark: str) -> str:
    core = inner.strip(" \n")
    # Marks around an asterisk that is meant as one would be read as more of them.
    if not core or (mark != "`" and not any(map(str.isalnum, core))):
        return inner
    if mark == "`":
        mark = "``" if "`" in core else "`"
    # White space stays outside, where Markdown wants it.
    before, after = inner.split(core, 1)
    return f"{before}{mark}{core}{mark}{after}"


def _raised(inner: str, before: str) -> str:
    follows = before[-1:].isalnum() or before[-1:] in {")", "]", "*", "`"}
    return f"^{inner}" if follows and _EXPONENT.fullmatch(inner.strip()) else inner
