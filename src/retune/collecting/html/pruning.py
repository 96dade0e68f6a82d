"""Which elements of a page are none of its text, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from retune.collecting.html.chrome_names import COOKIES, MOSTLY_LINKS, REASON_BY_NAME
from retune.collecting.html.elements import HEADINGS, classes, names, text_of
from retune.collecting.html.letter_counts import LeftOut, Letters
from retune.collecting.html.listings import numbers_lines
from retune.collecting.page_text import (
    CHROME,
    CONTROLS,
    HIDDEN,
    LINE_NUMBERS,
    NAVIGATION_TEXT,
    NOSCRIPT,
    NOTES,
    PICTURES,
    SCRIPT,
)

_BY_TAG = {
    **dict.fromkeys(("head", "script", "style", "template", "link", "meta", "title"), SCRIPT),
    "noscript": NOSCRIPT,
    "noframes": NOSCRIPT,
    "nav": NAVIGATION_TEXT,
    **dict.fromkeys(("button", "select", "input", "textarea", "datalist", "optgroup"), CONTROLS),
    **dict.fromkeys(("svg", "canvas", "audio", "video", "object", "iframe", "map"), PICTURES),
}
_BY_ROLE = {
    **dict.fromkeys(("navigation", "search", "doc-toc", "menu", "menubar"), NAVIGATION_TEXT),
    **dict.fromkeys(("banner", "contentinfo", "directory"), NAVIGATION_TEXT),
    **dict.fromkeys(("button", "switch", "slider", "progressbar"), CONTROLS),
    **dict.fromkeys(("dialog", "alertdialog"), CHROME),
    **dict.fromkeys(("doc-endnotes", "doc-noteref", "doc-footnote"), NOTES),
}
_INVISIBLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
_NOTES_TITLES = frozenset({"footnotes", "notas", "notas de rodapé"})
_RIGHTS = re.compile(
    r"\s*(©|copyright\b|\(c\)\s*\d{4}|all rights reserved|todos os direitos reservados)", re.I
)
_LONGEST_RIGHTS = 200
_SELF_LINKS = frozenset(
    {"link", "permalink", "permanent link", "anchor", "copy link", "edit", "[edit]", "[source]"}
)
_ANCHOR_NAMES = frozenset({"anchor", "permalink", "headerlink", "header-link"})
_MOST = 0.5
"""A name alone never takes more than this share of a page's text."""


def find_left_out(tree: Any, elsewhere: int = 0) -> LeftOut:
    """Find what only leads elsewhere, is not shown, or surrounds the text.

    Args:
        tree: A parsed page.
        elsewhere: Letters of the page that are not in the tree.

    Returns:
        Elements that are left out, each with its reason.
    """
    left_out: LeftOut = {}
    counted = Letters(tree)
    whole = _visible_letters(tree, counted) + elsewhere
    for element in tree.iter():
        reason = _BY_TAG.get(element.tag) or _by_role(element)
        if reason is None:
            reason = _by_look(element, counted)
            # What is most of a page is its text, whatever it is called and until a script shows it.
            if reason is not None and counted.all(element) > _MOST * whole:
                reason = None
        if reason is not None:
            left_out[element] = reason
    left_out.update(dict.fromkeys(_titles_of_notes(tree), NOTES))
    return left_out


def _visible_letters(tree: Any, counted: Letters) -> int:
    """Letters outside of what is left out by its tag or role."""
    total = counted.all(tree)
    waiting = [tree]
    while waiting:
        element = waiting.pop()
        if element.tag in _BY_TAG or _by_role(element):
            total -= counted.all(element)
        else:
            waiting += element.iterchildren()
    return total


def _by_role(element: Any) -> str | None:
    role = (element.get("role") or "").strip().lower()
    return _BY_ROLE.get(role)


def _by_look(element: Any, counted: Letters) -> str | None:
    if element.tag in {"html", "body", "main"} or element.get("role") in {"main", "tabpanel"}:
        return None
    if _is_hidden(element):
        return HIDDEN
    if element.tag == "form":
        return CONTROLS
    if element.tag == "a" and _links_to_itself(element):
        return NAVIGATION_TEXT
    if _is_site_header(element) or element.tag == "footer":
        return NAVIGATION_TEXT
    return _by_name(element, counted) or _by_words(element, counted)


def _by_name(element: Any, counted: Letters) -> str | None:
    own = names(element)
    reason = next((REASON_BY_NAME[name] for name in sorted(own & REASON_BY_NAME.keys())), None)
    if reason is not None and _is_whole_heading(element, counted):
        return None
    if reason is None and any(COOKIES.search(name) for name in own):
        reason = CHROME
    mostly_links = counted.linked(element) > _MOST * counted.all(element)
    if reason is None and own & MOSTLY_LINKS and mostly_links:
        reason = NAVIGATION_TEXT
    if reason is None and element.tag == "sup" and "reference" in own:
        reason = NOTES
    if reason is None and element.tag == "a" and "src" in own:
        reason = NAVIGATION_TEXT
    if reason is None and element.tag != "pre" and own and counted.all(element):
        # Beside a listing: the numbers of its lines, the name of its language.
        label = element.tag == "span" and "lang" in own
        reason = LINE_NUMBERS if label or numbers_lines(element) else None
    return reason


def _is_whole_heading(element: Any, counted: Letters) -> bool:
    """Tell a link that is all of a heading's words: `<h2><a class="header-anchor">Words</a>`."""
    if element.tag != "a" or not counted.all(element):
        return False
    heading = next((each for each in element.iterancestors() if each.tag in HEADINGS), None)
    if heading is None:
        return False
    own, whole = ("".join(filter(str.isalnum, text_of(each))) for each in (element, heading))
    return bool(own) and own == whole


def _by_words(element: Any, counted: Letters) -> str | None:
    if element.tag not in {"p", "div", "small", "address", "center", "td"}:
        return None
    short = 0 < counted.all(element) <= _LONGEST_RIGHTS
    return CHROME if short and _RIGHTS.match(text_of(element)) else None


def _is_hidden(element: Any) -> bool:
    hidden = element.get("hidden")
    if hidden is not None and hidden.lower() != "until-found":
        return True
    if (element.get("aria-hidden") or "").lower() == "true":
        return True
    return bool(_INVISIBLE.search(element.get("style") or ""))


def _links_to_itself(link: Any) -> bool:
    """A sign or a word behind a heading that leads to the heading."""
    text = text_of(link).strip().strip("\u200b").strip()
    href = link.get("href") or ""
    if text and not any(map(str.isalnum, text)):
        return "#" in href or bool(classes(link) & _ANCHOR_NAMES)
    named = bool(classes(link) & _ANCHOR_NAMES) or "action=edit" in href
    return text.lower() in _SELF_LINKS and (named or href.startswith("#"))


def _is_site_header(element: Any) -> bool:
    if element.tag != "header" or next(element.iter("h1", "h2"), None) is not None:
        return False
    return all(each.tag not in {"article", "main", "section"} for each in element.iterancestors())


def _titles_of_notes(tree: Any) -> Iterator[Any]:
    # The notes are left out; their title would stand alone.
    for element in tree.iter("p"):
        if "rubric" in classes(element) and text_of(element).strip().lower() in _NOTES_TITLES:
            yield element
