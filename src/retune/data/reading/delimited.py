"""Rows of a table as text: quoted line breaks, the line where each begins, and broken quotes.

A quote that is never closed would swallow every row after it. Such a row is given up alone, and
reading goes on at the line after the one where it began.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from retune.data.reading.dialects import Dialect, tell_dialect
from retune.data.reading.lines import ByteStream, Found, Line, bounded_lines, too_long
from retune.errors import DataError

_LINES_LOOKED_AT = 40


class _TooLong(Exception):
    """The row is longer than allowed."""


class _Feed:
    """Hands lines to the parser, one row at a time; what a row took can be given back."""

    def __init__(self, lines: Iterator[Line], limit: int) -> None:
        self._lines = lines
        self._again: deque[Line] = deque()
        self.limit = limit
        self.taken: list[Line] = []
        self.length = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        self.length += line.length
        # Two more for the end of the row's last line.
        if line.text is None or self.length > self.limit + 2:
            raise _TooLong
        return _decoded(line)

    def begin(self) -> None:
        """Begin a row."""
        self.taken, self.length = [], 0

    def look(self, count: int) -> list[str]:
        """Return the next lines that are not blank, which stay to be read."""
        ahead = [*self._again, *islice(self._lines, count)]
        self._again = deque(ahead)
        return [text for text in map(_decoded, ahead) if text.strip()]

    def give_back(self) -> None:
        """Let all lines of the row but its first be read again."""
        self._again.extendleft(reversed(self.taken[1:]))

    def skip_quoted(self) -> int:
        """Read on to the end of the quoted text that is open, and return the row's bytes."""
        length = self.length
        quotes = sum((line.text or b"").count(b'"') for line in self.taken)
        while quotes % 2:
            line = self._again.popleft() if self._again else next(self._lines, None)
            if line is None:
                break
            length += line.length
            quotes += (line.text or b"").count(b'"')
        return length


@dataclass(frozen=True)
class _Header:
    """The names above the columns, by place; columns without one are not read.

    Attributes:
        names: As they stand, without blanks around them; empty for a column without one.
    """

    names: list[str]

    def row(self, fields: list[str]) -> dict[str, str]:
        """Put fields under their names; what is under none must be empty, but for an index."""
        nameless = [
            field
            for place, (name, field) in enumerate(zip(self.names, fields, strict=True))
            if place and not name and field.strip()
        ]
        if nameless:
            raise DataError(f"has {nameless[0]!r:.60} under a column without a name")
        return {name: field for name, field in zip(self.names, fields, strict=True) if name}


def read_csv(stream: ByteStream, limit: int) -> Iterator[Found]:
    """Yield the rows of a table with a header; `,`, `;`, `|` or tab divides the fields.

    Args:
        stream: The open file.
        limit: Most bytes of a row.

    Yields:
        The rows, all values text, with the line where each begins.
    """
    yield from _read(stream, limit, ",")


def read_tsv(stream: ByteStream, limit: int) -> Iterator[Found]:
    """Yield the rows of a table whose fields a tab divides, unless its header says otherwise.

    Args:
        stream: The open file.
        limit: Most bytes of a row.

    Yields:
        The rows, all values text, with the line where each begins.
    """
    yield from _read(stream, limit, "\t")


def _read(stream: ByteStream, limit: int, usual: str) -> Iterator[Found]:
    # The parser's own limit, 128 KiB a field, is one number for the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), limit + 2))
    feed = _Feed(bounded_lines(stream, limit), limit)
    header: list[str] = []
    try:
        dialect = tell_dialect(feed.look(_LINES_LOOKED_AT), usual)
        if dialect.stated:
            _read_fields(feed, dialect, None)
        while not any(header):
            header = [name.strip() for name in _read_fields(feed, dialect, None)]
        _check_header(header)
    except StopIteration:
        return
    except DataError as error:
        line = feed.taken[0].number if feed.taken else 1
        yield Found(line, None, f"the header: {error}; the file is not read")
        return
    yield from _rows(feed, dialect, _Header(header))


def _rows(feed: _Feed, dialect: Dialect, header: _Header) -> Iterator[Found]:
    width = len(header.names)
    while True:
        try:
            fields = _read_fields(feed, dialect, width)
            line = feed.taken[0].number
            if not "".join(fields).strip() and len(fields) < max(2, width):
                continue
            fields = _fitted(fields, width, dialect)
            yield Found(line, header.row(fields))
        except StopIteration:
            return
        except DataError as error:
            yield Found(feed.taken[0].number, None, str(error))


def _read_fields(feed: _Feed, dialect: Dialect, width: int | None) -> list[str]:
    """Read one row's fields, none for a blank line; raises `StopIteration` at the file's end."""
    feed.begin()
    try:
        fields = next(_parser(feed, dialect))
        if width is not None and len(fields) > 0 and len(fields) != width:
            fields = _literal(feed, dialect, width) or fields
    except csv.Error as error:
        found = _literal(feed, dialect, width)
        if found is None:
            fault = _quote_fault(feed)
            feed.give_back()
            raise DataError(f"not CSV ({error}): {fault}") from error
        fields = found
    except _TooLong as error:
        if len(feed.taken) > 1 and _look_like_rows(feed.taken[1:], dialect, width or 1):
            feed.give_back()
            raise DataError("a quote that opens here is not closed") from error
        length = feed.skip_quoted() if len(feed.taken) > 1 else feed.length
        raise DataError(too_long(length, feed.limit)) from error
    if any(b"\0" in (line.text or b"") for line in feed.taken):
        raise DataError("holds a NUL byte: no text file has one; delete it")
    return fields


def _parser(lines: Iterator[str], dialect: Dialect) -> Iterator[list[str]]:
    return csv.reader(
        lines, delimiter=dialect.delimiter, strict=True, skipinitialspace=dialect.blanks_after
    )


def _literal(feed: _Feed, dialect: Dialect, width: int | None) -> list[str] | None:
    """Take the row's first line as it stands, where tabs divide it into as many fields as others.

    Many programs write tabs without any quoting: a quote is then a sign like any other.
    """
    if dialect.delimiter != "\t" or width is None:
        return None
    fields = _decoded(feed.taken[0]).rstrip("\r\n").split("\t")
    if len(fields) != width:
        return None
    feed.give_back()
    del feed.taken[1:]
    return fields


def _quote_fault(feed: _Feed) -> str:
    if any(b'\\"' in (line.text or b"") for line in feed.taken[:1]):
        return 'inside of quotes, write a quote twice (""): a backslash before it does not count'
    return "look for a quote that is not closed"


def _look_like_rows(lines: list[Line], dialect: Dialect, width: int) -> bool:
    """Say whether most lines inside an open quote would be rows by themselves."""
    alone = 0
    for line in lines:
        try:
            fields = next(_parser(iter([_decoded(line)]), dialect), [])
        except csv.Error:
            continue
        alone += len(fields) == width
    return width > 1 and alone * 2 > len(lines)


def _fitted(fields: list[str], width: int, dialect: Dialect) -> list[str]:
    """Return a row's fields, without what spreadsheets write behind the last one."""
    _refuse_bytes(fields)
    if len(fields) > width and not "".join(fields[width:]).strip():
        fields = fields[:width]
    if len(fields) != width:
        raise DataError(
            f"has {len(fields)} fields, the header has {width}; {dialect.name} divides them: a "
            "field that holds one, or a line break, must stand in quotes"
        )
    return fields


def _refuse_bytes(fields: list[str]) -> None:
    try:
        "".join(fields).encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError("is not UTF-8 (save the file as UTF-8)") from error


def _check_header(header: list[str]) -> None:
    _refuse_bytes(header)
    named = [name for name in header if name]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise DataError(f"names {', '.join(map(repr, twice))} twice")


def _decoded(line: Line) -> str:
    # Bytes that are not UTF-8 become lone surrogates here, and are looked for in the fields.
    return (line.text or b"").decode("utf-8", "surrogateescape")
