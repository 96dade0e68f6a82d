"""Where on a page its text stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trafilatura.xpaths import BODY_XPATH

from retune.collecting.html.elements import HEADINGS, names
from retune.collecting.html.letter_counts import LeftOut, Letters
from retune.collecting.page_text import LINKS, NAVIGATION_TEXT

_NAMES = (
    *("main-content", "content-main", "document", "markdown-body", "theme-doc-markdown"),
    *("rst-content", "md-content", "mw-parser-output", "body-content", "entry-content"),
    *("post-content", "article-content", "page-content", "td-content", "book-page"),
    *("manual-text", "content-container", "doc-content", "documentwrapper", "primary", "content"),
)
_ENOUGH = 0.5
"""What is taken for the text by its name has to hold this share of the words."""
_FEWEST_LINKS = 3
_MOSTLY_LINKED = 0.8
_ALL_LINKED = 0.85


def find_main(tree: Any, counted: Letters) -> Any:
    """Find the element that holds a page's text.

    Args:
        tree: The page.
        counted: Its letters.

    Returns:
        The element: what the page says is its main part, else what its name says is, as long as
        most of the words stand in it, else the whole body.
    """
    body = next(tree.iter("body"), tree)
    main = _main_of([each for each in tree.iter() if _is_main(each)], counted)
    if main is not None and counted.all(main):
        within = _article_in(main, counted)
        return main if within is None else within
    article = _article_in(body, counted)
    if article is not None:
        return article
    for candidate in _named(body):
        if counted.words(candidate) > _ENOUGH * counted.words(body):
            return candidate
    return body


def _is_main(element: Any) -> bool:
    return element.tag == "main" or (element.get("role") or "").strip().lower() == "main"


def _main_of(candidates: list[Any], counted: Letters) -> Any:
    """The main part; of several what holds all of them, where most of its words stand in them."""
    largest = max(candidates, key=counted.words, default=None)
    apart = [
        each
        for each in candidates
        if counted.all(each) and not any(above in candidates for above in each.iterancestors())
    ]
    if len(apart) < 2:
        return largest
    holder = _common_ancestor(apart)
    enough = sum(map(counted.words, apart)) > _ENOUGH * counted.words(holder)
    return holder if enough else largest


def _article_in(root: Any, counted: Letters) -> Any:
    """The article, or what holds all of them, where most of the words stand in it."""
    articles = [each for each in root.iter("article") if counted.all(each)]
    if not articles:
        return None
    holder = _common_ancestor(articles)
    enough = counted.words(holder) > _ENOUGH * counted.words(root)
    return holder if enough else None


def _common_ancestor(found: list[Any]) -> Any:
    if len(found) == 1:
        return found[0]
    common = [found[0], *found[0].iterancestors()]
    for element in found[1:]:
        above = {element, *element.iterancestors()}
        common = [each for each in common if each in above]
    return common[0]


def _named(body: Any) -> Iterator[Any]:
    by_name: dict[str, Any] = {}
    for element in body.iter("div", "section", "td", "article"):
        for name in names(element):
            by_name.setdefault(name, element)
    yield from (by_name[name] for name in _NAMES if name in by_name)
    for expression in BODY_XPATH:
        yield from expression(body)[:1]


def mark_links(main: Any, left_out: LeftOut, counted: Letters) -> None:
    """Leave out lists, cells and lines that only lead elsewhere.

    Args:
        main: Where the text stands.
        left_out: Gains the elements.
        counted: Letters of the page.
    """
    for element in main.iter("ul", "ol", "menu", "div", "td", "p", "center"):
        total, links = counted.all(element), counted.links(element)
        if element is main or not total or not links:
            continue
        share = counted.linked(element) / total
        if element.tag in {"ul", "ol", "menu"}:
            if links >= _FEWEST_LINKS and share > _MOSTLY_LINKED:
                left_out.setdefault(element, LINKS)
        elif links >= _FEWEST_LINKS and share > _ALL_LINKED and not _has_heading(element):
            left_out.setdefault(element, NAVIGATION_TEXT)


def _has_heading(element: Any) -> bool:
    return next(element.iter(*HEADINGS), None) is not None
