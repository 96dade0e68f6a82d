"""Where on a page its text stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lxml import etree
from trafilatura.xpaths import BODY_XPATH

from retune.collecting.elements import HEADINGS, elements, names
from retune.collecting.page_text import LINKS, NAVIGATION_TEXT, letters
from retune.collecting.pruning import LeftOut

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


class Letters:
    """Letters of elements, without what is left out, and how many of them are linked.

    Args:
        tree: The page.
        left_out: What is left out of it.
    """

    def __init__(self, tree: Any, left_out: LeftOut) -> None:
        self._left_out = left_out
        self._all: dict[Any, int] = {}
        self._linked: dict[Any, int] = {}
        self._links: dict[Any, int] = {}
        self._count(tree)

    def words(self, element: Any) -> int:
        """Return the letters that stand in no link."""
        return self._all.get(element, 0) - self._linked.get(element, 0)

    def all(self, element: Any) -> int:
        """Return all letters."""
        return self._all.get(element, 0)

    def linked(self, element: Any) -> int:
        """Return the letters that stand in links."""
        return self._linked.get(element, 0)

    def links(self, element: Any) -> int:
        """Return how many links there are."""
        return self._links.get(element, 0)

    def _count(self, tree: Any) -> None:
        # From the leaves up, since a page may be nested deeper than functions may call themselves.
        for _, element in etree.iterwalk(tree, events=("end",)):
            own = letters(element.text or "")
            total = linked = links = 0
            for child in element.iterchildren():
                tail = letters(child.tail or "")
                own += tail
                if child in self._left_out:
                    continue
                total += self._all[child]
                linked += self._linked[child]
                links += self._links[child]
            self._all[element] = own + total
            is_link = element.tag == "a" and element.get("href")
            self._linked[element] = self._all[element] if is_link else linked
            self._links[element] = links + bool(is_link)


def find_main(tree: Any, counted: Letters) -> Any:
    """Find the element that holds a page's text.

    Args:
        tree: The page.
        counted: Its letters.

    Returns:
        The element: what the page says is its main part, else what its name says is, as long as
        most of the words stand in it, else the whole body.
    """
    body = next(elements(tree, "body"), tree)
    main = _most_words([each for each in tree.iter() if _is_main(each)], counted)
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


def _most_words(candidates: list[Any], counted: Letters) -> Any:
    return max(candidates, key=counted.words, default=None)


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
    return next(elements(element, *HEADINGS), None) is not None
