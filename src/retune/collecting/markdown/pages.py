"""A Markdown page to a document: its blocks stay as they were written, raw HTML is read as HTML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

from retune.collecting.failures import NO_CONTENT, PageFailed
from retune.collecting.html.content_blocks import Block, BlockReader
from retune.collecting.html.data_tables import VERBATIM
from retune.collecting.html.parsing import parse_page
from retune.collecting.html.pruning import find_left_out
from retune.collecting.html.sectioning import build_sections
from retune.collecting.markdown.dialects import plain_markdown
from retune.collecting.markdown.inline import without_tags
from retune.collecting.navigation import refuse_licence, refuse_linked
from retune.collecting.page_text import FRONT_MATTER, HIDDEN, MARKUP, letters
from retune.collecting.records import Document, Section
from retune.digests import digest_json

_FRONT_MATTER = re.compile(
    r"\A(---|\+\+\+)[ \t]*\n(.*?)(?:(?<=\n)|\A)(?:\1|\.\.\.)[ \t]*(?:\n|\Z)", re.S
)
_FIELD = re.compile(r"^(title|lang|language)[ \t]*[:=][ \t]*[\"']?(.+?)[\"']?[ \t]*$", re.M)
_HEADING_ATTRIBUTES = re.compile(r"\s*\{[#.:][^{}]*\}\s*$")
# Up to the end of such an element its content is text: left open, it would swallow the page.
_RAW_TEXT = re.compile(
    r"<(/?)(title|textarea|script|style|xmp|iframe|noembed|noframes|noscript|select)\b", re.I
)


def read_markdown(source: str, text: str) -> Document:
    """Read a Markdown page; plain text is Markdown without headings.

    Args:
        source: Address or path, as it was given.
        text: The page.

    Returns:
        The document.

    Raises:
        PageFailed: It is a list of links, a licence, or empty.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    front = _FRONT_MATTER.match(text)
    stated = dict(_FIELD.findall(front.group(2))) if front else {}
    body = plain_markdown(text[front.end() :] if front else text)
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    blocks, left_out = _read(tokens, body)
    if front:
        left_out[FRONT_MATTER] = letters(front.group())
    kept = sum(block.letters for block in blocks)
    left_out[MARKUP] += max(0, letters(text) - kept - left_out.total())
    sections = build_sections(blocks)
    first = next((part.path[0] for part in sections if part.path), "")
    title = stated.get("title") or first or _name(source)
    try:
        _refuse_links(tokens)
        _refuse(source, title, sections)
    except PageFailed as failure:
        everything = +(left_out + Counter({failure.reason: kept}))
        raise PageFailed(failure.reason, failure.detail, left_out=everything) from failure
    return Document(
        source=source,
        title=title,
        language=stated.get("lang") or stated.get("language"),
        sections=sections,
        left_out=dict(+left_out),
    )


def _refuse(source: str, title: str, sections: tuple[Section, ...]) -> None:
    if not any(section.blocks for section in sections):
        raise PageFailed(NO_CONTENT, "no paragraph")
    refuse_licence(source, title, "\n".join(part.text for part in sections))


def _read(tokens: list[Token], body: str) -> tuple[list[Block], Counter[str]]:
    """Blocks of a page, and letters of its raw HTML that stand in none.

    The page becomes HTML with an element in place of each of Markdown's own blocks, so that raw
    HTML may enclose them: what is hidden is hidden, and a ``<details>`` ends where it ends.
    """
    # The digest keeps a page that speaks of such elements from being taken for one.
    prefix = f"{VERBATIM}-{digest_json(body)[:12]}"
    written: list[str] = []
    verbatim: dict[str, Block] = {}
    for piece in _pieces(tokens, body.split("\n")):
        if isinstance(piece, Block):
            name = f"{prefix}-{len(verbatim)}"
            verbatim[name] = piece
            written.append(f"<{name}></{name}>")
        else:
            written.append(_closed(piece))
    elsewhere = sum(block.letters for block in verbatim.values())
    tree = parse_page(f"<!DOCTYPE html><html><body>{chr(10).join(written)}</body></html>").tree
    reader = BlockReader(next(tree.iter("body"), tree), find_left_out(tree, elsewhere), verbatim)
    blocks = reader.read(tree)
    found = {element.tag for element in tree.iter()}
    # What a comment encloses that goes over several blocks.
    reader.left_out[HIDDEN] += sum(
        block.letters for name, block in verbatim.items() if name not in found
    )
    return blocks, reader.left_out


def _pieces(tokens: list[Token], lines: list[str]) -> Iterator[Block | str]:
    """Blocks of Markdown, and raw HTML as text."""
    for place, token in enumerate(tokens):
        # Level 0 stands outside lists and quotes; what closes a block has no lines.
        if token.level or token.map is None or token.type == "hr":
            continue
        source = "\n".join(lines[slice(*token.map)]).strip("\n")
        if token.type == "html_block":
            yield source
            continue
        inner = tokens[place : _end(tokens, place)]
        level = 0
        if token.type == "heading_open":
            # The text is the next token's, as it was written; a heading may have none.
            source, level = tokens[place + 1].content, int(token.tag[1])
        if token.type not in {"fence", "code_block"}:
            source = without_tags(source, inner, token.map[0])
        if level:
            source = _HEADING_ATTRIBUTES.sub("", source).replace("\n", " ").strip()
        if source.strip():
            yield Block(text=source, level=level, letters=letters(source))


def _end(tokens: list[Token], place: int) -> int:
    if tokens[place].nesting != 1:
        return place + 1
    after = range(place + 1, len(tokens))
    return next((n for n in after if not tokens[n].level and tokens[n].nesting == -1), len(tokens))


def _closed(html: str) -> str:
    open_names: list[str] = []
    for closes, name in _RAW_TEXT.findall(html):
        if closes and name.lower() in open_names:
            open_names.remove(name.lower())
        elif not closes:
            open_names.append(name.lower())
    return html.replace("<plaintext", "<pre") + "".join(f"</{name}>" for name in open_names)


def _refuse_links(tokens: list[Token]) -> None:
    linked = total = 0
    for token in tokens:
        inside = 0
        if token.type in {"fence", "code_block"}:
            total += len(token.content)
        for child in token.children or []:
            inside += {"link_open": 1, "link_close": -1}.get(child.type, 0)
            total += len(child.content)
            linked += len(child.content) if inside else 0
    refuse_linked(linked, total)


def _name(source: str) -> str:
    return PurePosixPath(unquote(urlsplit(source).path)).stem.replace("_", " ").replace("-", " ")
