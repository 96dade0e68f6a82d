"""The main content of a page as headings and Markdown blocks, and what is left out, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from lxml import etree

from retune.collecting.html.data_tables import is_data_table, table_lines
from retune.collecting.html.elements import BLOCKS, text_of
from retune.collecting.html.headings import asks, heading_level, is_admonition, is_api_list
from retune.collecting.html.inline_text import InlineText
from retune.collecting.html.letter_counts import LeftOut
from retune.collecting.html.listings import is_listing, read_listing
from retune.collecting.page_text import LINE_NUMBERS, MARKUP, OUTSIDE, letters
from retune.records import Record

_DEEPEST_MARKS = 8
"""Marks of lists and quotes before one block; tags that are never closed would pile them up."""


class Block(Record):
    """A heading, a piece of a section's body, or the end of sections."""

    text: str
    level: int = 0
    """1 to 6 for a heading, more for a term below one, 0 for a piece of body."""
    letters: int = 0
    """How many of the page's letters stand in it."""
    ends: bool = False
    """No heading: sections of this level and deeper end here."""


class BlockReader:
    """Reads blocks from a page's tree. No function calls itself: pages are nested without end.

    Args:
        main: The element whose text is wanted.
        left_out: Elements that are left out, with the reason.
        verbatim: Blocks by the name of the element that stands for them.
        titles: Elements that head sections, though nothing but their look says so.
    """

    def __init__(
        self,
        main: Any,
        left_out: LeftOut,
        verbatim: Mapping[str, Block] | None = None,
        titles: frozenset[Any] = frozenset(),
    ) -> None:
        self._main = main
        self._left_out = left_out
        self._verbatim = verbatim or {}
        self._titles = titles
        self._blocks: list[Block] = []
        self._text = InlineText()
        self._inside = False
        self._heading: tuple[Any, int] | None = None
        self._level = 0
        self._prefixes: list[tuple[Any, str]] = []
        self._numbers: list[int] = []
        self._opened: list[tuple[Any, int]] = []
        self._admonitions: list[Any] = []
        self.left_out: Counter[str] = Counter()
        """Letters by the reason why they stand in no block."""

    def read(self, tree: Any) -> list[Block]:
        """Return the blocks of a page, in order.

        Args:
            tree: The page, or any element above the main content.
        """
        walker = etree.iterwalk(tree, events=("start", "end"))
        for event, element in walker:
            if event == "start":
                if self._skips(element):
                    walker.skip_subtree()
                else:
                    self._add(element.text)
            else:
                self._end(element)
                if element is not tree:
                    self._add(element.tail)
        self._flush()
        return self._blocks

    def _add(self, text: str | None) -> None:
        if not text:
            return
        if self._inside:
            self._text.add(text)
        else:
            self.left_out[OUTSIDE] += letters(text)

    def _skips(self, element: Any) -> bool:
        """Begin an element; return whether nothing below it is looked at any more."""
        reason = self._left_out.get(element)
        if reason is not None:
            self.left_out[reason] += letters(text_of(element)) + self._letters_below(element)
            # What stood there also kept the words before and after it apart.
            if element.tag in BLOCKS:
                self._flush()
            return True
        if element is self._main:
            self._inside = True
        return self._inside and self._starts(element)

    def _starts(self, element: Any) -> bool:
        if element.tag in self._verbatim:
            self._flush()
            self._place(self._verbatim[element.tag])
            return False
        if self._heading is not None:
            self._text.start_in_heading(element)
            return False
        if is_listing(element):
            return self._list_code(element)
        if element.tag == "table" and is_data_table(element, self._left_out):
            self._tabulate(element)
            return True
        level = self._heading_level(element)
        if level:
            self._flush()
            self._heading = (element, level)
        elif element.tag in BLOCKS:
            self._flush()
            self._open(element)
        else:
            self._text.start(element)
        return False

    def _heading_level(self, element: Any) -> int:
        if element in self._titles:
            return 2
        if self._admonitions or any(mark == "> " for _, mark in self._prefixes):
            return 0
        if element.tag == "dt" and self._opened and self._opened[-1][0] is _list_of(element):
            return self._opened[-1][1] + 1
        if element.tag == "summary" and self._opened and asks(element):
            details, level = self._opened[-1]
            return level + 1 if details is element.getparent() else 0
        return heading_level(element, self._level)

    def _open(self, element: Any) -> None:
        tag = element.tag
        if tag == "blockquote":
            self._prefixes.append((element, "> "))
        elif tag in {"ol", "ul", "menu", "dir"}:
            start = element.get("start") or "1"
            self._numbers.append(int(start) if start.isdecimal() and len(start) < 9 else 1)
        elif tag == "li":
            self._prefixes.append((element, self._mark(element)))
        if is_admonition(element):
            self._admonitions.append(element)
        elif tag == "details" or (tag == "dl" and is_api_list(element)):
            self._opened.append((element, self._level))

    def _mark(self, item: Any) -> str:
        parent = item.getparent()
        if parent is None or parent.tag != "ol" or not self._numbers:
            return "- "
        number = self._numbers[-1]
        self._numbers[-1] += 1
        return f"{number}. "

    def _end(self, element: Any) -> None:
        if not self._inside or element in self._left_out:
            return
        if self._heading is not None:
            if self._heading[0] is element:
                self._head()
            elif element.tag in BLOCKS:
                self._text.space()
        elif element.tag in BLOCKS:
            self._flush()
            self._close(element)
        else:
            self._text.end(element)
        if element is self._main:
            self._flush()
            self._inside = False

    def _close(self, element: Any) -> None:
        if element.tag in {"ol", "ul", "menu", "dir"} and self._numbers:
            self._numbers.pop()
        if self._prefixes and self._prefixes[-1][0] is element:
            self._prefixes.pop()
        if self._admonitions and self._admonitions[-1] is element:
            self._admonitions.pop()
        if self._opened and self._opened[-1][0] is element:
            inner, (_, self._level) = self._level, self._opened.pop()
            if inner != self._level:
                self._blocks.append(Block(text="", level=self._level + 1, ends=True))

    def _head(self) -> None:
        assert self._heading is not None
        (element, level), self._heading = self._heading, None
        text, count = self._text.take_plain()
        last = self._blocks[-1] if self._blocks else None
        if not text.strip():
            self.left_out[MARKUP] += count
        elif element.tag == "dt" and last and last.level == level and not last.ends:
            # Several signatures of one function share its description.
            joined = {"text": f"{last.text}, {text}", "letters": last.letters + count}
            self._blocks[-1] = last.model_copy(update=joined)
        else:
            self._level = level
            self._blocks.append(Block(text=text, level=level, letters=count))

    def _flush(self) -> None:
        if self._heading is not None:
            return
        paragraphs, count = self._text.take()
        if not paragraphs:
            self.left_out[MARKUP] += count
        for number, text in enumerate(paragraphs):
            self._place(Block(text=text, letters=0 if number else count))

    def _place(self, block: Block) -> None:
        """Append a block, with the marks of the lists and quotes that it stands in."""
        if block.level:
            self._level = block.level
        marks = "".join(mark for _, mark in self._prefixes[-_DEEPEST_MARKS:])
        # An item has its mark once, and a listing that is indented is not verbatim any more.
        self._prefixes = [(each, m if m == "> " else "") for each, m in self._prefixes]
        if not block.level and not block.text.startswith("```") and block.text:
            block = block.model_copy(update={"text": marks + block.text})
        self._blocks.append(block)

    def _list_code(self, element: Any) -> bool:
        self._flush()
        listing, junk = read_listing(element)
        self.left_out[LINE_NUMBERS] += junk
        if listing.text:
            self._place(Block(text=listing.fenced, letters=letters(listing.text)))
        return True

    def _tabulate(self, table: Any) -> None:
        self._flush()
        whole = letters(text_of(table))
        placed: list[int] = []
        counted: Counter[str] = Counter()

        def read_cell(cell: Any) -> str:
            if cell in self._left_out:
                return ""
            # Cells of data hold no table, so this goes one level down and no further.
            reader = BlockReader(cell, self._left_out)
            blocks = reader.read(cell)
            counted.update(reader.left_out)
            placed.append(sum(block.letters for block in blocks))
            return " ".join(block.text for block in blocks).replace("\n", " ")

        for caption in table.iterchildren("caption"):
            if text := read_cell(caption):
                self._place(Block(text=text, letters=placed[-1]))
        captions = sum(placed)
        if lines := table_lines(table, read_cell):
            self._place(Block(text="\n".join(lines), letters=sum(placed) - captions))
        self.left_out.update(counted)
        # Text between cells, where browsers show none, and what is left out there.
        self.left_out[OUTSIDE] += max(0, whole - sum(placed) - counted.total())

    def _letters_below(self, element: Any) -> int:
        """Letters of the blocks that elements below this one stand for."""
        if not self._verbatim:
            return 0
        below = (self._verbatim.get(each.tag) for each in element.iter())
        return sum(block.letters for block in below if block is not None)


def _list_of(term: Any) -> Any:
    """The definition list of a ``<dt>``, which may group its terms in ``<div>``."""
    parent = term.getparent()
    return parent.getparent() if parent is not None and parent.tag == "div" else parent
