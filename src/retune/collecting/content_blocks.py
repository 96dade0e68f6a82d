"""The extractor's tree (TEI-like) as headings and Markdown blocks, listings put back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from retune.collecting.listings import Listing
from retune.records import Record

# HTML's white space. A no-break space is a character of the text and stays.
_SPACE = re.compile(r"[ \t\n\r\f]+")
_MARKS = {"#b": "**", "#i": "*"}


class Block(Record):
    """A heading or a piece of a section's body."""

    text: str
    level: int = 0
    """1 to 6 for a heading, 0 for a piece of body."""


class BlockReader:
    """Reads blocks from the extractor's tree.

    Args:
        listings: By the word that stands for them.
    """

    def __init__(self, listings: Mapping[str, Listing]) -> None:
        self._listings = listings
        self._words = re.compile("|".join(map(re.escape, listings)) or r"(?!)")
        self.placed: set[str] = set()
        """Words whose listing stands in a block."""

    def read(self, body: Any) -> Iterator[Block]:
        """Yield the blocks below an element, in order.

        Args:
            body: An element of the extractor's tree.

        Yields:
            Headings as plain text, the rest as Markdown.
        """
        yield from self._prose(body.text or "")
        for element in body:
            yield from self._element(element)
            yield from self._prose(element.tail or "")

    def _element(self, element: Any) -> Iterator[Block]:
        if element.tag == "head":
            text = _folded("".join(element.itertext()))
            if text:
                yield Block(text=text, level=int((element.get("rend") or "h2")[-1]))
        elif element.tag == "list":
            yield from self._list(element)
        elif element.tag == "table" and not self._words.search("".join(element.itertext())):
            yield from _table(element)
        elif element.tag == "quote":
            for block in self.read(element):
                fenced = block.text.startswith("```")
                yield block if fenced else Block(text=f"> {block.text}")
        elif element.tag in {"p", "code", "hi", "ref", "del"}:
            yield from self._prose(_inline(element))
        else:
            # Also a table that only lays out a listing: its cells, one after the other.
            yield from self.read(element)

    def _list(self, element: Any) -> Iterator[Block]:
        numbered = element.get("rend") == "ol"
        for number, item in enumerate(element.iterchildren("item"), start=1):
            mark = f"{number}. " if numbered else "- "
            if (item.get("rend") or "").startswith(("dt", "dd")):
                mark = ""
            for block in self._item(item):
                # Listings stay unindented, since an indented one is not verbatim any more.
                fenced = block.text.startswith("```")
                yield block if fenced or block.level else Block(text=mark + block.text)
                mark = ""

    def _item(self, item: Any) -> Iterator[Block]:
        """An item's blocks; text that stands loose between inline elements is one block."""
        loose = item.text or ""
        for element in item:
            if element.tag in {"p", "list", "table", "quote", "head", "div"}:
                yield from self._prose(loose)
                yield from self._element(element)
                loose = element.tail or ""
            else:
                loose += _inline(element) + (element.tail or "")
        yield from self._prose(loose)

    def _prose(self, text: str) -> Iterator[Block]:
        """Text as a paragraph, or as several where listings stand in it."""
        start = 0
        for word in self._words.finditer(text):
            yield from _paragraph(text[start : word.start()])
            self.placed.add(word.group())
            yield Block(text=self._listings[word.group()].fenced)
            start = word.end()
        yield from _paragraph(text[start:])


def _paragraph(text: str) -> Iterator[Block]:
    folded = _folded(text)
    if folded.strip("` "):
        yield Block(text=folded)


def _folded(text: str) -> str:
    return _SPACE.sub(" ", text).strip(" ")


def _inline(element: Any) -> str:
    """An element's text with inline Markdown; prose is not escaped, since a model reads it."""
    if element.tag == "lb":
        return " "
    inner = (element.text or "") + "".join(_inline(child) + (child.tail or "") for child in element)
    if element.tag == "code" and inner:
        mark = "``" if "`" in inner else "`"
        return f"{mark}{inner}{mark}"
    mark = _MARKS.get(element.get("rend") or "", "") if element.tag == "hi" else ""
    # Marks around an asterisk that is meant as one would be read as more of them.
    return f"{mark}{inner}{mark}" if any(map(str.isalnum, inner)) else inner


def _table(table: Any) -> Iterator[Block]:
    rows = [
        [_folded(_inline(cell)).replace("|", "\\|") for cell in row.iterchildren("cell")]
        for row in table.iter("row")
    ]
    rows = [row for row in rows if any(row)]
    if not rows:
        return
    width = max(map(len, rows))
    lines = ["| " + " | ".join(row + [""] * (width - len(row))) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * width)
    yield Block(text="\n".join(lines))
