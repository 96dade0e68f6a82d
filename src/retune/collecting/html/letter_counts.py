"""How many letters stand below each element of a page, and how many of them in links."""

from __future__ import annotations

from typing import Any

from lxml import etree

from retune.collecting.page_text import letters

LeftOut = dict[Any, str]
"""Elements that are left out as a whole, with the reason."""


class Letters:
    """Letters of elements, without what is left out, and how many of them are linked.

    Args:
        tree: The page.
        left_out: What is left out of it; None counts everything.
    """

    def __init__(self, tree: Any, left_out: LeftOut | None = None) -> None:
        self._left_out = left_out or {}
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
