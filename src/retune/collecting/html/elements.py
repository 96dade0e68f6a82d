"""Names of HTML's elements by what they do, and small questions to an element."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

BLOCKS = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd"),
        *(
            "details",
            "dialog",
            "dir",
            "div",
            "dl",
            "dt",
            "fieldset",
            "figcaption",
            "figure",
            "footer",
        ),
        *(
            "form",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "header",
            "hgroup",
            "hr",
            "html",
            "legend",
            "li",
        ),
        *("main", "menu", "nav", "noframes", "ol", "optgroup", "option", "p", "pre", "search"),
        *("section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"),
    }
)
"""Elements that begin a line of their own."""
HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# CSS modules append a digest to a name: breadcrumbsContainer_Z_bl, tocMobile_ITEo.
_DIGEST = re.compile(r"_[A-Za-z0-9_+-]{4,6}$")
_WORD = re.compile(r"[a-z0-9]+")


@lru_cache(maxsize=4096)
def _names(stated: str) -> frozenset[str]:
    found = set()
    for name in stated.split():
        for form in (name, _DIGEST.sub("", name)):
            found.add(form.lower())
            found.add("-".join(_WORD.findall(_CAMEL.sub("-", form).lower())))
    return frozenset(found)


def names(element: Any) -> frozenset[str]:
    """Return an element's classes and its id, in lower case, also as ``words-with-hyphens``."""
    return _names(f"{element.get('class') or ''} {element.get('id') or ''}")


def classes(element: Any) -> frozenset[str]:
    """Return an element's classes in the forms of `names`."""
    return _names(element.get("class") or "")


def text_of(element: Any) -> str:
    """Return all text below an element."""
    return "".join(element.itertext())
