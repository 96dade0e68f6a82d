"""A page's text to a tree, whatever it is made of: HTML, XHTML with prefixes, broken markup."""

from __future__ import annotations

import html.entities
import re
from typing import Any

from lxml import etree

from retune.collecting.failures import EXTRACTOR, NO_CONTENT, PageFailed
from retune.collecting.page_text import letters

_XHTML = re.compile(r"\A\s*<\?xml\b|\A\s*<!DOCTYPE[^>]{0,200}\bXHTML\b", re.I)
# Entities of its own can read files and fill the memory.
_OWN_ENTITIES = re.compile(r"<!(?:ENTITY|ATTLIST)", re.I)
_NAMED = re.compile(r"&([A-Za-z][A-Za-z0-9]*);")
_OF_XML = frozenset({"amp", "lt", "gt", "quot", "apos"})
_NAME = re.compile(r"[a-z_][a-z0-9_.-]*")
_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", re.S | re.I)


class Page:
    """A parsed page.

    Args:
        tree: Its root; names of elements are lower case and without prefixes.
        unread: Letters that the parser gave up on.
    """

    def __init__(self, tree: Any, unread: int = 0) -> None:
        self.tree = tree
        self.unread = unread


def parse_page(text: str, *, as_xml: bool = False) -> Page:
    """Parse a page.

    Args:
        text: HTML or XHTML.
        as_xml: Whether it was served or named as XHTML.

    Returns:
        The page.

    Raises:
        PageFailed: There is nothing in it, or the parser fails.
    """
    tree = _as_xhtml(text) if as_xml or _XHTML.match(text) else None
    unread = 0
    if tree is None:
        tree, unread = _as_html(text)
    for element in tree.iter(etree.Element):
        name = element.tag.rpartition("}")[2].rpartition(":")[2].lower()
        # Broken markup gives names that no element can have, such as "d<h4".
        element.tag = name if _NAME.fullmatch(name) else "span"
    return Page(tree, unread)


def _as_xhtml(text: str) -> Any:
    """The tree, or None: XHTML is often stated and seldom true, and then it is HTML."""
    if _OWN_ENTITIES.search(text):
        return None
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        remove_comments=True,
        remove_pis=True,
        strip_cdata=True,
    )
    named = _NAMED.sub(_character, text.lstrip())
    try:
        return etree.fromstring(named.encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError:
        return None


def _character(match: re.Match[str]) -> str:
    name = match.group(1)
    if name in _OF_XML:
        return match.group()
    return html.entities.html5.get(f"{name};", match.group())


def _as_html(text: str) -> tuple[Any, int]:
    # As bytes with a stated charset, since lxml refuses text that declares one itself. With
    # huge_tree 2048 levels are read in place of 256, which unclosed <font> tags of old pages reach;
    # whatever walks the tree must therefore not call itself.
    parser = etree.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True
    )
    try:
        tree = etree.fromstring(text.encode("utf-8", "replace"), parser)
    except etree.LxmlError as error:
        raise PageFailed(EXTRACTOR, f"{type(error).__name__}: {error}") from error
    if tree is None:
        raise PageFailed(NO_CONTENT, "the page is empty")
    if not any("depth" in entry.message for entry in parser.error_log):
        return tree, 0
    written = letters(html.unescape(_MARKUP.sub(" ", text)))
    scripts = sum(letters("".join(each.itertext())) for each in tree.iter("script", "style"))
    read = letters("".join(tree.itertext())) - scripts
    return tree, max(0, written - read)
