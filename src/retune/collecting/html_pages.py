"""An HTML page to a document: listings protected, navigation pruned, main content extracted."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree, html
from trafilatura import bare_extraction

from retune.collecting.content_blocks import BlockReader
from retune.collecting.failures import EXTRACTOR, NO_CONTENT, PageFailed
from retune.collecting.listings import take_listings
from retune.collecting.navigation import prune_navigation, refuse_licence, refuse_navigation
from retune.collecting.records import Document
from retune.collecting.sectioning import build_sections

# A site's name after the page's: "Numbers — Python 3.12.1 documentation".
_SITE_NAME = re.compile(r"\s+[|–—·»]\s+[^|–—·»]+$")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")


def read_html(source: str, text: str) -> Document:
    """Read the main content of an HTML page.

    Args:
        source: Address or path, as it was given.
        text: The page.

    Returns:
        The document.

    Raises:
        PageFailed: It is a navigation or licence page, or has no main content.
    """
    tree = _parse(text)
    title, language = _title(tree), _language(tree)
    listings = take_listings(tree)
    prune_navigation(tree)
    refuse_navigation(tree)
    found = _extract(tree)
    if found is None or found.body is None:
        raise PageFailed(NO_CONTENT, "nothing but navigation and short fragments")
    reader = BlockReader(listings)
    sections = build_sections(reader.read(found.body))
    document = Document(
        source=source,
        title=title or next((part.path[0] for part in sections if part.path), ""),
        language=language,
        sections=sections,
        lost_listings=len(listings) - len(reader.placed),
    )
    if not document.characters:
        raise PageFailed(NO_CONTENT, "no paragraph")
    refuse_licence(source, document.title, "\n".join(part.text for part in sections))
    return document


def _extract(tree: html.HtmlElement) -> Any:
    # Without the library's own second opinions, which choose by length and would count a word
    # for a listing; recall, since what leads elsewhere is gone already.
    try:
        return bare_extraction(
            tree, fast=True, favor_recall=True, include_comments=False, include_formatting=True
        )
    except Exception as error:
        # Pages are stranger than any library foresees, and one must not cost the others.
        raise PageFailed(EXTRACTOR, f"{type(error).__name__}: {error}") from error


def _parse(text: str) -> html.HtmlElement:
    # As bytes with a stated charset, since lxml refuses text that declares one itself; without
    # huge_tree, since that lifts the limit on nesting.
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True)
    try:
        return html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError as error:
        raise PageFailed(NO_CONTENT, "the page is empty") from error


def _title(tree: html.HtmlElement) -> str:
    headings = tree.xpath("//h1")
    if len(headings) == 1:
        # Without the link to itself that documentation puts behind a heading.
        parts = headings[0].xpath(".//text()[not(ancestor::a[normalize-space(.)='¶'])]")
        text = " ".join("".join(parts).split(" ")).strip()
        if text:
            return re.sub(r"[ \t\n\r\f]+", " ", text)
    named = tree.xpath("//meta[@property='og:title']/@content") or tree.xpath("//title/text()")
    return _SITE_NAME.sub("", str(named[0]).strip()) if named else ""


def _language(tree: html.HtmlElement) -> str | None:
    stated = tree.xpath("/html/@lang | /html/@xml:lang")
    found = _LANGUAGE.fullmatch(str(stated[0]).strip()) if stated else None
    return found.group().replace("_", "-") if found else None
