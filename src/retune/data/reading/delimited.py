"""Rows of a CSV file: quoted line breaks, the line where each row begins, and broken quotes.

A quote that is never closed would swallow every row after it. Such a row is given up alone, and
reading goes on at the line after the one where it began.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator

from retune.data.reading.lines import ByteStream, Found, Line, bounded_lines, too_long
from retune.errors import DataError

_DELIMITERS = (",", ";", "\t")
_QUOTED = re.compile(rb'"[^"]*"')


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
        # Bytes that are not UTF-8 become lone surrogates here, and are looked for in the fields.
        return line.text.decode("utf-8", "surrogateescape")

    def begin(self) -> None:
        """Begin a row."""
        self.taken, self.length = [], 0

    def give_back(self, first: int = 1) -> None:
        """Let the row's lines from one on be read again."""
        self._again.extendleft(reversed(self.taken[first:]))

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


def read_csv(stream: ByteStream, limit: int) -> Iterator[Found]:
    """Yield the rows of a CSV file with a header; `,`, `;` or tab divides the fields.

    Args:
        stream: The open file.
        limit: Most bytes of a row.

    Yields:
        The rows, all values text, with the line where each begins.
    """
    # The parser's own limit, 128 KiB a field, is one number for the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), limit + 2))
    feed = _Feed(bounded_lines(stream, limit), limit)
    delimiter = _sniff_delimiter(feed)
    header: list[str] = []
    try:
        while not header:
            header = _read_fields(feed, delimiter, 1)
        _check_header(header)
    except StopIteration:
        return
    except DataError as error:
        yield Found(feed.taken[0].number, None, f"the header: {error}; the file is not read")
        return
    yield from _rows(feed, delimiter, header)


def _rows(feed: _Feed, delimiter: str, header: list[str]) -> Iterator[Found]:
    while True:
        try:
            fields = _read_fields(feed, delimiter, len(header))
            line = feed.taken[0].number
            if not "".join(fields).strip() and len(fields) < max(2, len(header)):
                continue
            _check_fields(fields, len(header))
            yield Found(line, dict(zip(header, fields, strict=True)))
        except StopIteration:
            return
        except DataError as error:
            yield Found(feed.taken[0].number, None, str(error))


def _read_fields(feed: _Feed, delimiter: str, width: int) -> list[str]:
    """Read one row's fields, none for a blank line; raises `StopIteration` at the file's end."""
    feed.begin()
    try:
        fields = next(csv.reader(feed, delimiter=delimiter, strict=True))
    except csv.Error as error:
        feed.give_back()
        raise DataError(f"not CSV ({error}): look for a quote that is not closed") from error
    except _TooLong as error:
        if len(feed.taken) > 1 and _look_like_rows(feed.taken[1:], delimiter, width):
            feed.give_back()
            raise DataError("a quote that opens here is not closed") from error
        length = feed.skip_quoted() if len(feed.taken) > 1 else feed.length
        raise DataError(too_long(length, feed.limit)) from error
    if any(b"\0" in (line.text or b"") for line in feed.taken):
        raise DataError("holds a NUL byte: no text file has one; delete it")
    return fields


def _look_like_rows(lines: list[Line], delimiter: str, width: int) -> bool:
    """Say whether most lines inside an open quote would be rows by themselves."""
    alone = 0
    for line in lines:
        text = (line.text or b"").decode("utf-8", "surrogateescape")
        try:
            fields = next(csv.reader([text], delimiter=delimiter, strict=True), [])
        except csv.Error:
            continue
        alone += len(fields) == width
    return width > 1 and alone * 2 > len(lines)


def _check_fields(fields: list[str], expected: int) -> None:
    try:
        "".join(fields).encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError("is not UTF-8; save the file as UTF-8") from error
    if len(fields) != expected:
        raise DataError(
            f"has {len(fields)} fields, the header has {expected}; a field that holds the "
            "delimiter or a line break must stand in quotes"
        )


def _check_header(header: list[str]) -> None:
    _check_fields(header, len(header))
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"names {', '.join(map(repr, twice))} twice")


def _sniff_delimiter(feed: _Feed) -> str:
    """Return the delimiter that stands most often in the first line, outside of quotes."""
    feed.begin()
    for _ in iter(lambda: _is_blank(feed), False):
        pass
    text = _QUOTED.sub(b"", (feed.taken[-1].text or b"") if feed.taken else b"")
    feed.give_back(0)
    return max(_DELIMITERS, key=lambda sign: text.count(sign.encode()))


def _is_blank(feed: _Feed) -> bool:
    try:
        return not next(feed).strip()
    except (StopIteration, _TooLong):
        return False
