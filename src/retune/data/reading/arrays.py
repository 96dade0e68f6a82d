"""Rows of a JSON file: lines, an array of objects, or an object with one such array under a key.

A list is cut at the commas of the array before any row is parsed. So memory holds one row, each
row knows the line where it begins, and one malformed row leaves the others as they are. What cannot
be cut (a text without its closing quote, brackets that do not match) ends the reading there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from retune.data.reading.lines import ByteStream, Found, parse_row, read_lines, too_long
from retune.data.reading.shapes import Head, tell_shape
from retune.data.reading.values import read_values

_CHUNK_BYTES = 1 << 18
_OUTSIDE = re.compile(rb'["\[\]{},\n]')
_INSIDE = re.compile(rb'["\\\n]')
_PAIRS = {"]": "[", "}": "{"}
_BLANK = b" \t\r\n"


class _Broken(Exception):
    """The rest of the file cannot be cut into rows."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.found = Found(line, None, f"{reason}; what follows in this file is not read")


def read_json(stream: ByteStream, limit: int) -> Iterator[Found]:
    """Yield the rows of a JSON file, however it holds them.

    Args:
        stream: The open file.
        limit: Most bytes of a row.

    Yields:
        The rows, with the line where each begins.
    """
    yield from _read(stream, limit, lines=False)


def read_json_lines(stream: ByteStream, limit: int) -> Iterator[Found]:
    """Yield the rows of a file of JSON Lines; one that holds a list or longer objects is read too.

    Args:
        stream: The open file.
        limit: Most bytes of a row.

    Yields:
        The rows, with the line where each begins.
    """
    yield from _read(stream, limit, lines=True)


def _read(stream: ByteStream, limit: int, *, lines: bool) -> Iterator[Found]:
    head = Head(stream, limit + _CHUNK_BYTES)
    shape = tell_shape(head, lines=lines)
    again = _Again(head.held, stream)
    if shape == "lines":
        yield from read_lines(again, limit)
        return
    if shape == "values":
        yield from read_values(again, limit)
        return
    cutter = _Cutter(limit)
    try:
        while chunk := again.read1(_CHUNK_BYTES):
            yield from cutter.feed(chunk)
        yield from cutter.finish()
    except _Broken as error:
        yield error.found


class _Again:
    """A stream whose first bytes were looked at already, and are given once more."""

    def __init__(self, head: bytes, rest: ByteStream) -> None:
        self._head, self._at, self._rest = head, 0, rest

    def peek(self, size: int, /) -> bytes:
        return self._head[self._at : self._at + size] or self._rest.peek(size)

    def read1(self, size: int = -1, /) -> bytes:
        return self._take(size) if self._at < len(self._head) else self._rest.read1(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        most = -1 if size is None else size
        end = (self._head.find(b"\n", self._at) + 1 or len(self._head)) - self._at
        line = self._take(end if most < 0 else min(end, most))
        if line.endswith(b"\n") or len(line) == most:
            return line
        return line + self._rest.readline(most if most < 0 else most - len(line))

    def _take(self, size: int) -> bytes:
        begin = self._at
        self._at = len(self._head) if size < 0 else min(len(self._head), begin + size)
        taken = self._head[begin : self._at]
        if self._at == len(self._head):
            self._head, self._at = b"", 0
        return taken


class _Cutter:
    """Cuts a JSON text into the items of its list, however it is fed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._line = 1
        self._open: list[str] = []
        self._in_text = self._escaped = self._closed = False
        self._depth = 0  # of the list: 1 for an array, 2 for one under a key
        self._lists = 0  # that hold objects
        self._collecting = False
        self._item_line = 1
        self._first = True
        self._number = 0  # of the item in its list
        self._last_line = 0
        self._ignored = False
        self._held = bytearray()
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Found]:
        at = begin = 0
        if self._escaped:
            at, self._escaped = 1, False
        while match := (_INSIDE if self._in_text else _OUTSIDE).search(chunk, at):
            place, at = match.span()
            sign = chr(chunk[place])
            if sign == "\\":
                at += 1
                self._escaped = at > len(chunk)
            elif sign == '"':
                self._in_text = not self._in_text
            elif sign == "\n":
                self._end_line()
            elif sign in "[{":
                if self._opens_list(sign):
                    begin = at
            elif self._collecting and len(self._open) == self._depth:
                self._hold(chunk[begin:place])
                yield from self._end_item(last=sign != ",")
                begin = at
                self._close(sign)
            else:
                self._close(sign)
        if self._collecting:
            self._hold(chunk[begin:])

    def finish(self) -> Iterator[Found]:
        if not self._open:
            if not self._lists and not self._depth:
                raise _Broken(1, "expected a list of rows ([{...}, ...]), found none")
            if not self._lists and self._depth == 2:
                raise _Broken(1, "the object has no list of rows under any key")
            return
        if not self._collecting or self._in_text or len(self._open) > self._depth:
            raise _Broken(self._begin(), "the file ends inside what begins here")
        yield from self._end_item(last=True)
        raise _Broken(self._line, "the file ends before its list of rows does: rows may be lost")

    def _end_line(self) -> None:
        if self._in_text:
            raise _Broken(self._line, "a text is not closed on this line")
        self._line += 1

    def _opens_list(self, sign: str) -> bool:
        """Note a bracket; true where it opens the list that holds the rows."""
        if self._closed:
            raise _Broken(self._line, "a second value begins here after the first one's end")
        if not self._open:
            self._depth = 1 if sign == "[" else 2
        self._open.append(sign)
        if sign != "[" or len(self._open) != self._depth:
            return False
        self._collecting, self._first, self._ignored = True, True, False
        self._start_item()
        return True

    def _close(self, sign: str) -> None:
        if sign == ",":
            return
        if not self._open or self._open[-1] != _PAIRS[sign]:
            raise _Broken(self._line, f"a {sign} closes what is not open")
        if len(self._open) == self._depth:
            self._collecting = False
        self._open.pop()
        self._closed = not self._open

    def _start_item(self) -> None:
        self._item_line, self._size = self._line, 0
        self._held.clear()

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        self._held += piece[: max(0, self._limit + 1 - len(self._held))]

    def _begin(self) -> int:
        """Return the line of the item's first sign."""
        blank = len(self._held) - len(self._held.lstrip(_BLANK))
        return self._item_line + self._held.count(b"\n", 0, blank)

    def _end_item(self, *, last: bool) -> Iterator[Found]:
        text, line = bytes(self._held.strip(_BLANK)), self._begin()
        size, first = self._size, self._first
        self._start_item()
        self._first = False
        if last and not text:
            return
        if first:
            self._judge_list(text, line)
        if self._ignored:
            return
        self._number += 1
        found = parse_row(line, text) if size <= self._limit else None
        found = found or Found(line, None, too_long(size, self._limit))
        if found.value is None and line == self._last_line:
            # Its line says little where others begin there too.
            found = found._replace(reason=f"{found.reason} (row {self._number} of the list)")
        self._last_line = line
        yield found

    def _judge_list(self, text: bytes, line: int) -> None:
        """Leave out lists under a key that hold no objects; there may be one that does."""
        self._ignored = self._depth == 2 and not text.startswith(b"{")
        if not self._ignored:
            self._lists += 1
        if self._lists > 1:
            raise _Broken(line, "a second list of rows begins here, expected one")
