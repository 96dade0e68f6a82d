"""A Markdown page to a document: its blocks stay as they were written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

from retune.collecting.content_blocks import Block
from retune.collecting.failures import NO_CONTENT, PageFailed
from retune.collecting.navigation import refuse_licence, refuse_linked
from retune.collecting.records import Document
from retune.collecting.sectioning import build_sections

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_FIELD = re.compile(r"^(title|lang|language):[ \t]*[\"']?(.+?)[\"']?[ \t]*$", re.M)


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
    stated = dict(_FIELD.findall(front.group(1))) if front else {}
    body = text[front.end() :] if front else text
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    _refuse_links(tokens)
    sections = build_sections(_blocks(tokens, body.split("\n")))
    if not any(section.blocks for section in sections):
        raise PageFailed(NO_CONTENT, "no paragraph")
    first = next((part.path[0] for part in sections if part.path), "")
    document = Document(
        source=source,
        title=stated.get("title") or first or _name(source),
        language=stated.get("lang") or stated.get("language"),
        sections=sections,
    )
    refuse_licence(source, document.title, "\n".join(part.text for part in sections))
    return document


def _blocks(tokens: list[Token], lines: list[str]) -> Iterator[Block]:
    for place, token in enumerate(tokens):
        # Level 0 stands outside lists and quotes; what closes a block has no lines.
        if token.level or token.map is None:
            continue
        if token.type == "heading_open":
            # The text is the next token's, as it was written; a heading may have none.
            if text := tokens[place + 1].content:
                yield Block(text=text, level=int(token.tag[1]))
        elif token.type not in {"html_block", "hr"}:
            source = "\n".join(lines[slice(*token.map)]).strip("\n")
            if source.strip():
                yield Block(text=source)


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
