"""An HTML page to a document: what is not its text left out, the rest as sections."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from retune.collecting.failures import NO_CONTENT, PageFailed
from retune.collecting.html.content_blocks import Block, BlockReader
from retune.collecting.html.elements import HEADINGS, classes
from retune.collecting.html.headings import find_bold_titles
from retune.collecting.html.letter_counts import LeftOut, Letters
from retune.collecting.html.main_content import find_main, mark_links
from retune.collecting.html.page_kinds import refuse_other_markup, refuse_text_elsewhere
from retune.collecting.html.parsing import parse_page
from retune.collecting.html.pruning import find_left_out
from retune.collecting.html.sectioning import build_sections
from retune.collecting.navigation import refuse_licence, refuse_linked
from retune.collecting.page_text import UNREAD, clean, fold_spaces
from retune.collecting.records import Document

# A site's name after the page's: "Numbers — Python 3.12.1 documentation".
_SITE_NAME = re.compile(r"\s+[|–—·»]\s+[^|–—·»]+$")
_POST_TITLES = frozenset({"entry-title", "post-title", "article-title"})
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")


def read_html(source: str, text: str, *, as_xml: bool = False) -> Document:
    """Read the main content of an HTML page.

    Args:
        source: Address or path, as it was given.
        text: The page.
        as_xml: Whether it was served or named as XHTML.

    Returns:
        The document.

    Raises:
        PageFailed: It is a navigation or licence page, has its text elsewhere, or has none.
    """
    refuse_other_markup(text)
    page = parse_page(text, as_xml=as_xml)
    left_out = find_left_out(page.tree)
    counted = Letters(page.tree, left_out)
    main = find_main(page.tree, counted)
    mark_links(main, left_out, counted)
    reader = BlockReader(main, left_out, titles=find_bold_titles(main))
    blocks = reader.read(page.tree)
    reader.left_out[UNREAD] += page.unread
    kept = sum(block.letters for block in blocks)
    try:
        refuse_linked(counted.linked(main), counted.all(main))
        refuse_text_elsewhere(page.tree, kept)
        return _document(source, page.tree, main, left_out, blocks, +reader.left_out)
    except PageFailed as failure:
        everything = +(reader.left_out + Counter({failure.reason: kept}))
        raise PageFailed(failure.reason, failure.detail, left_out=everything) from failure


def _document(
    source: str,
    tree: Any,
    main: Any,
    left_out: LeftOut,
    blocks: list[Block],
    counted: Counter[str],
) -> Document:
    sections = build_sections(blocks)
    document = Document(
        source=source,
        title=_title(tree, main, left_out) or _first_heading(blocks),
        language=_language(tree),
        sections=sections,
        left_out=dict(counted),
    )
    if not document.characters:
        raise PageFailed(NO_CONTENT, "nothing but navigation and short fragments")
    refuse_licence(source, document.title, "\n".join(part.text for part in sections))
    return document


def _first_heading(blocks: list[Block]) -> str:
    return next((block.text for block in blocks if block.level and block.text), "")


def _title(tree: Any, main: Any, left_out: LeftOut) -> str:
    heading = _title_heading(tree, main, left_out)
    if heading is not None:
        # Without the link to itself that documentation puts behind a heading.
        blocks = BlockReader(heading, left_out).read(heading)
        text = " ".join(block.text for block in blocks if block.level)
        if text:
            return text
    for meta in tree.iter("meta"):
        if meta.get("property") == "og:title" and (meta.get("content") or "").strip():
            return _SITE_NAME.sub("", fold_spaces(clean(meta.get("content"))).strip())
    for title in tree.iter("title"):
        if title.getparent() is not None and title.getparent().tag in {"head", "html", "body"}:
            return _SITE_NAME.sub("", fold_spaces(clean("".join(title.itertext()))).strip())
    return ""


def _title_heading(tree: Any, main: Any, left_out: LeftOut) -> Any:
    """The heading that names the page: on a blog the only <h1> outside may name the blog."""
    inside = [each for each in main.iter("h1") if each not in left_out]
    posts = [each for each in tree.iter(*HEADINGS) if classes(each) & _POST_TITLES]
    everywhere = [each for each in tree.iter("h1") if each not in left_out]
    found = (each[0] for each in (inside, posts, everywhere) if len(each) == 1)
    return next(found, None)


def _language(tree: Any) -> str | None:
    stated = tree.get("lang") or tree.get("{http://www.w3.org/XML/1998/namespace}lang")
    stated = stated or tree.get("xml:lang")
    found = _LANGUAGE.fullmatch(stated.strip()) if stated else None
    return found.group().replace("_", "-") if found else None
