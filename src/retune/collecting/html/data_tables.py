"""Tables that hold data as Markdown; those that only lay out a page are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from retune.collecting.html.elements import BLOCKS, HEADINGS, text_of
from retune.collecting.html.listings import is_listing
from retune.collecting.page_text import letters

VERBATIM = "retuneblock"
"""How names of elements begin that stand for a block of Markdown."""

_MOST_IN_A_CELL = 1000
"""Letters; a longer cell is a column of a page."""
_MOST_SPAN = 100
_MOST_IN_A_LINE = 300
_OF_TABLES = frozenset({"tbody", "tr", "td"})
_SECTIONS = frozenset({"thead", "tbody", "tfoot"})


def is_data_table(table: Any, left_out: dict[Any, str]) -> bool:
    """Return whether a table holds data.

    Args:
        table: The element.
        left_out: What of the page is left out.
    """
    if (table.get("role") or "").lower() in {"presentation", "none"}:
        return False
    for each in table.iterdescendants():
        if each.tag in {"table", "pre", "dl"} or each.tag in HEADINGS:
            return False
        if is_listing(each) or str(each.tag).startswith(VERBATIM):
            return False
    rows = [list(_cells(row)) for row in _rows(table) if row not in left_out]
    headed = any(cell.tag == "th" for row in rows for cell in row)
    if max(map(len, rows), default=0) < 2:
        return False
    if len(rows) < 2 and not headed:
        return is_line(table)
    return all(letters(text_of(cell)) <= _MOST_IN_A_CELL for row in rows for cell in row)


def is_line(table: Any) -> bool:
    """Return whether a table only sets the words of one line apart, such as a signature's.

    Args:
        table: A table without a head.
    """
    if len(list(_rows(table))) != 1 or letters(text_of(table)) > _MOST_IN_A_LINE:
        return False
    return all(each.tag not in BLOCKS - _OF_TABLES for each in table.iterdescendants())


def table_lines(table: Any, read_cell: Callable[[Any], str]) -> list[str]:
    """Write a table as Markdown; spanned cells stay empty, so that columns stay columns.

    Args:
        table: A table of data.
        read_cell: Gives a cell's text in one line; it is called once for each cell.

    Returns:
        Lines; none for a table without text.
    """
    rows: list[list[str]] = []
    below: dict[tuple[int, int], bool] = {}
    for place, row in enumerate(_rows(table)):
        line: list[str] = []
        for cell in _cells(row):
            while below.pop((place, len(line)), False):
                line.append("")
            start, width = len(line), _span(cell, "colspan")
            line += [read_cell(cell).replace("|", "\\|"), *[""] * (width - 1)]
            for down in range(1, _span(cell, "rowspan")):
                below.update({(place + down, start + across): True for across in range(width)})
        rows.append(line)
    rows = [row for row in rows if any(row)]
    if not rows:
        return []
    if is_line(table):
        return [" ".join(cell for cell in rows[0] if cell)]
    width = max(map(len, rows))
    lines = ["| " + " | ".join(row + [""] * (width - len(row))) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * width)
    return lines


def _rows(table: Any) -> Iterator[Any]:
    for child in table.iterchildren():
        if child.tag == "tr":
            yield child
        elif child.tag in _SECTIONS:
            yield from child.iterchildren("tr")


def _cells(row: Any) -> Iterator[Any]:
    yield from row.iterchildren("td", "th")


def _span(cell: Any, name: str) -> int:
    stated = (cell.get(name) or "1").strip()
    return max(1, min(_MOST_SPAN, int(stated))) if stated.isdecimal() and len(stated) < 5 else 1
