"""Code listings of an HTML page: read verbatim, without line numbers and buttons."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from retune.collecting.html.elements import classes, text_of
from retune.collecting.page_text import letters
from retune.records import Record

_TAGS = frozenset({"pre", "listing", "xmp", "plaintext"})
_WHITE_SPACE = re.compile(r"white-space\s*:\s*pre\b(?!-line)", re.I)
_CONTROL_CHARACTERS = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127, 0xFEFF])
_LINES = frozenset({"div", "li", "p", "tr"})
_NUMBERS = re.compile(r"[\d\s.:|]*")
_NUMBERED = re.compile(
    r"(^|[-_])(l(ine)?-?n(umber|um|o|t|r)?s?|lines|gutter|blob-num|linenos?)([-_]|$)"
)
_BUTTONS = frozenset(
    {
        *("copybtn", "copy-btn", "copy-button", "btn-clipboard", "clipboard", "md-clipboard"),
        *("zeroclipboard-container", "sr-only", "visually-hidden", "button", "copy"),
    }
)
_LANGUAGE_CLASS = re.compile(
    r"(?:^|\s)(?:(?:language|lang|src|highlight-source|highlight)-|brush:\s*|sourceCode\s+)([\w+#.-]+)"
)
_NO_LANGUAGE = {"default", "none", "text", "plaintext", "source", "notranslate"}
_NEAR = 3


class Listing(Record):
    """One listing of a page."""

    text: str
    language: str

    @property
    def fenced(self) -> str:
        """The listing as Markdown, in a fence longer than any run of backticks in it."""
        longest = max((len(run) for run in re.findall(r"`+", self.text)), default=0)
        fence = "`" * max(3, longest + 1)
        return f"{fence}{self.language}\n{self.text}\n{fence}"


def is_listing(element: Any) -> bool:
    """Return whether an element shows its text as it stands."""
    if element.tag in _TAGS:
        return True
    if element.tag == "div" and "fragment" in classes(element):
        # Doxygen: each line an element, and no <pre> around them.
        return any("line" in classes(line) for line in element.iterchildren("div"))
    style = element.get("style")
    if not style or element.tag not in {"code", "div", "p"} or not _WHITE_SPACE.search(style):
        return False
    # A whole page may be styled so; a listing is text and spans.
    return "\n" in text_of(element).strip() and next(element.iter("p", "div", "table"), None) in {
        None,
        element,
    }


def read_listing(element: Any) -> tuple[Listing, int]:
    """Read a listing.

    Args:
        element: The element that shows it.

    Returns:
        The listing, and the letters in it that are line numbers or buttons.
    """
    whole = letters(text_of(element))
    # The numbers may also stand in a <pre> of their own, beside the listing.
    if _is_gutter(element):
        return Listing(text="", language=""), whole
    # HTML drops a line break right after <pre>; the last one belongs to the fence.
    text = _verbatim(element).removeprefix("\n").rstrip("\n")
    listing = Listing(text=text if text.strip() else "", language=_language(element))
    return listing, whole - letters(listing.text)


def _verbatim(element: Any) -> str:
    parts: list[str] = []

    def end_line() -> None:
        if parts and not parts[-1].endswith("\n"):
            parts.append("\n")

    def add(text: str | None) -> None:
        if text:
            shown = text.replace("\r\n", "\n").replace("\r", "\n").translate(_CONTROL_CHARACTERS)
            parts.append(shown)

    walker = etree.iterwalk(element, events=("start", "end"))
    for event, each in walker:
        if event == "start":
            if each.tag in _LINES and each is not element:
                end_line()
            if each is not element and _is_junk(each):
                walker.skip_subtree()
            else:
                add("\n" if each.tag == "br" else each.text)
        elif each is not element:
            if each.tag in _LINES and each.tail and each.tail.strip("\r\n"):
                end_line()
            add(each.tail)
    return "".join(part for part in parts if part)


def _is_junk(element: Any) -> bool:
    if element.tag in {"button", "script", "style"} or _BUTTONS & classes(element):
        return True
    if element.get("hidden") is not None or "display:none" in (element.get("style") or ""):
        return True
    return numbers_lines(element)


def numbers_lines(element: Any) -> bool:
    """Return whether an element holds the numbers of a listing's lines and nothing else."""
    numbered = any(_NUMBERED.search(name) for name in classes(element))
    return numbered and bool(_NUMBERS.fullmatch(text_of(element)))


def _is_gutter(element: Any) -> bool:
    near = [element, *list(element.iterancestors())[:2]]
    return any(map(numbers_lines, near))


def _language(element: Any) -> str:
    # Line numbers stand in a table with the listing; what names its language is around that.
    table = next(element.iterancestors("table"), None)
    around = [] if table is None else [table, *table.iterancestors()][:_NEAR]
    near = [*element.iterchildren("code"), element, *element.iterancestors()][: _NEAR + 1]
    places = [*near, *around]
    for place in places:
        found = _LANGUAGE_CLASS.search(place.get("class") or "")
        named = found.group(1) if found else place.get("data-lang") or place.get("data-language")
        if named and named.lower() not in _NO_LANGUAGE and re.fullmatch(r"[\w+#.-]+", named):
            return str(named.lower().removesuffix("3"))
    return ""
