"""What is a heading on a page, and of which level, however it is written."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

from retune.collecting.html.elements import BLOCKS, HEADINGS, classes, text_of
from retune.collecting.page_text import letters

_DEEPEST = 6
_LONGEST = 200
"""Letters; what is longer is a paragraph that is printed like a heading."""
_LONGEST_BOLD = 80
_TITLE_NAMES = frozenset(
    {
        *("title", "heading", "headline", "rubric", "section-title", "sectiontitle"),
        *("section-heading", "chapter-title", "page-title", "entry-title", "post-title"),
    }
)
_SECTION_NAMES = frozenset({"sect1", "sect2", "sect3", "titlepage", "headertitle"})
_LEVEL_NAME = re.compile(r"(?:^|-)(?:mso-?)?(?:heading|head|title|h)-?([1-6])$")
_TITLE_TAGS = frozenset({"p", "div", "span"})
_CAPTIONED = re.compile(
    r"(^|-)(block|listing|figure|table|example|image|card|topic|sidebar|admonition|code|content"
    r"|caption|tab|item|informaltable|procedure)(-|$)|block$"
)
_ADMONITIONS = frozenset(
    {
        *("admonition", "admonitionblock", "callout", "alert", "theme-admonition"),
        *(
            "note",
            "warning",
            "tip",
            "caution",
            "important",
            "danger",
            "hint",
            "attention",
            "error",
            "info",
            "seealso",
        ),
        *("custom-block", "notice", "infobox", "message", "starlight-aside", "markdown-alert"),
    }
)
_API_LISTS = frozenset(
    {
        *("py", "c", "cpp", "js", "rst", "std", "php", "rb", "go", "ruby", "java", "http"),
        *("function", "class", "method", "attribute", "data", "exception", "describe", "option"),
        *("envvar", "confval", "property", "staticmethod", "classmethod", "cmdoption", "macro"),
        *("variable", "decorator", "type", "member", "enum", "struct", "directive", "role"),
    }
)
# Texinfo: deftypefn, defvar, defmac ...
_DEFINED = re.compile(r"def(type)?(fn|un|var|vr|mac|spec|opt|op|method|cv|ivar|tp)x?$")
_FIELDS = frozenset({"field-list", "simple", "notes", "docutils", "footnote", "citation"})
# A summary that says nothing of what it opens asks no question.
_BARE_SUMMARY = re.compile(
    r"(click|tap|show|hide|expand|view|see|more|details?|examples?|output|solution|answer|code"
    r"|source( code)?|note|clique|mostrar|exibir|ver|mais|detalhes?|exemplos?|sa[ií]da|solução"
    r"|resposta|código)\b[\w ]{0,20}[.:…!]*",
    re.I,
)


def heading_level(element: Any, current: int) -> int:
    """Return the level of a heading, 0 for what is none.

    Args:
        element: An element of the main content.
        current: Level of the heading above it, 0 where there is none.

    Returns:
        1 to 6, or 0.
    """
    if element.tag in HEADINGS:
        return _outlined(element) if element.tag == "h1" else int(element.tag[1])
    if (element.get("role") or "").strip().lower() == "heading":
        stated = (element.get("aria-level") or "2").strip()
        return max(1, min(_DEEPEST, int(stated))) if stated.isdecimal() else 2
    if element.tag not in _TITLE_TAGS or not element.get("class"):
        return 0
    return _by_name(element, current)


def _outlined(heading: Any) -> int:
    """Level of an ``<h1>``: HTML once had sections within sections, each with one of its own."""
    around = list(heading.iterancestors("section", "article"))[1:]
    above = sum(each.find("h1") is not None for each in around)
    return min(_DEEPEST, 1 + above)


def find_bold_titles(main: Any) -> frozenset[Any]:
    """Find the headings of a page that has none: short lines that are bold or large throughout.

    Args:
        main: The element whose text is wanted.

    Returns:
        Blocks that head sections; none where the page has headings, or a single such line.
    """
    headings = (each for each in main.iterdescendants() if heading_level(each, 0))
    if len(list(islice(headings, 2))) > 1:
        return frozenset()
    found = frozenset(each for each in main.iter("p", "div", "center") if _is_bold_title(each))
    return found if len(found) > 1 else frozenset()


def _is_bold_title(element: Any) -> bool:
    text = text_of(element).strip()
    if not 0 < letters(text) <= _LONGEST_BOLD or text[-1] in ".,;:!" or _has_blocks(element):
        return False
    if any(each.tag in {"li", "td", "blockquote", "dd"} for each in element.iterancestors()):
        return False
    loud = [each for each in element.iterchildren() if _is_loud(each)]
    return sum(letters(text_of(each)) for each in loud) == letters(text)


def _is_loud(element: Any) -> bool:
    size = (element.get("size") or "").strip() if element.tag == "font" else ""
    return element.tag in {"b", "strong"} or size in {"+1", "+2", "+3", "4", "5", "6", "7"}


def _by_name(element: Any, current: int) -> int:
    own = classes(element)
    stated = next((found for name in sorted(own) if (found := _LEVEL_NAME.search(name))), None)
    if stated is None and not own & _TITLE_NAMES:
        return 0
    if not 0 < letters(text_of(element)) <= _LONGEST or _has_blocks(element):
        return 0
    if stated is not None:
        return int(stated.group(1))
    parent = element.getparent()
    captions = parent is not None and any(_CAPTIONED.search(name) for name in classes(parent))
    # Boxes and cards have titles that head no section; a paragraph is a stronger sign.
    if captions or (element.tag != "p" and not _heads_section(parent)):
        return 0
    return min(_DEEPEST, current + 1)


def _has_blocks(element: Any) -> bool:
    return any(each.tag in BLOCKS for each in element.iterdescendants())


def _heads_section(parent: Any) -> bool:
    if parent is None:
        return False
    return parent.tag in {"section", "article", "main", "body", "header"} or any(
        "section" in name or "chapter" in name or name in _SECTION_NAMES for name in classes(parent)
    )


def is_admonition(element: Any) -> bool:
    """Return whether an element is a note or a warning; its title heads no section."""
    return element.tag in {"div", "aside", "section", "blockquote", "details", "table"} and bool(
        classes(element) & _ADMONITIONS
    )


def is_api_list(element: Any) -> bool:
    """Return whether a definition list describes functions, options or the like.

    Args:
        element: A ``<dl>``.

    Returns:
        Whether its terms head sections of their own.
    """
    own = classes(element)
    if own & _FIELDS and not own & (_API_LISTS - {"data", "type", "option"}):
        return False
    terms = list(element.iterchildren("dt"))
    return bool(own & _API_LISTS) or any(
        name == "sig" or _DEFINED.match(name) for term in terms for name in classes(term)
    )


def asks(summary: Any) -> bool:
    """Return whether a ``<summary>`` says what its details are about."""
    text = text_of(summary).strip()
    return 0 < letters(text) <= _LONGEST and not _BARE_SUMMARY.fullmatch(text)
