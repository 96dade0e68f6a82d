"""Rows of a JSON file: an array of objects, or an object with one such array under a key.

The file is cut at the commas of the array before any row is parsed. So memory holds one row, each
row knows the line where it begins, and one malformed row leaves the others as they are. What cannot
be cut (a text without its closing quote, brackets that do not match) ends the reading there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from retune.data.jsonl import parse_object
from retune.data.reading.lines import ByteStream, Found, parse_row, read_json_lines, too_long
from retune.errors import DataError
from retune.text_files import BYTE_ORDER_MARK

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
    """Yield the rows of a JSON file; one that holds JSON Lines is read as such.

    Args:
        stream: The open file.
        limit: Most bytes of a row.

    Yields:
        The rows, with the line where each begins.
    """
    head = _read_head(stream, limit)
    stream = _Again(head, stream)
    if _holds_lines(head):
        yield from read_json_lines(stream, limit)
        return
    cutter = _Cutter(limit)
    try:
        while chunk := stream.read1(_CHUNK_BYTES):
            yield from cutter.feed(chunk)
        yield from cutter.finish()
    except _Broken as error:
        yield error.found


class _Again:
    """A stream whose first bytes were looked at already, and are given once more."""

    def __init__(self, head: bytes, rest: ByteStream) -> None:
        self._head, self._rest = head, rest

    def peek(self, size: int, /) -> bytes:
        return self._head or self._rest.peek(size)

    def read1(self, size: int = -1, /) -> bytes:
        return self._take(size) if self._head else self._rest.read1(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        most = -1 if size is None else size
        end = self._head.find(b"\n") + 1 or len(self._head)
        line = self._take(end if most < 0 else min(end, most))
        if line.endswith(b"\n") or len(line) == most:
            return line
        return line + self._rest.readline(most if most < 0 else most - len(line))

    def _take(self, size: int) -> bytes:
        end = len(self._head) if size < 0 else size
        taken, self._head = self._head[:end], self._head[end:]
        return taken


def _read_head(stream: ByteStream, limit: int) -> bytes:
    """Read the first line and where the second one begins, as far as the limit on rows goes."""
    head = b""
    while len(head) <= limit + _CHUNK_BYTES:
        first, _, rest = head.removeprefix(BYTE_ORDER_MARK).lstrip(_BLANK).partition(b"\n")
        if first[:1] not in (b"", b"{") or rest.strip(_BLANK):
            break
        try:
            chunk = stream.read1(_CHUNK_BYTES)
        except EOFError:  # Compressed, and broken off: reading on says so, after these rows.
            break
        if not chunk:
            break
        head += chunk
    return head


def _holds_lines(head: bytes) -> bool:
    """Say whether the first line is an object by itself, and another one follows."""
    first, _, rest = head.removeprefix(BYTE_ORDER_MARK).lstrip(_BLANK).partition(b"\n")
    if not first.startswith(b"{") or not rest.lstrip(_BLANK).startswith(b"{"):
        return False
    try:
        parse_object(first)
    except DataError:
        # A broken first row beside others: an object's first line would end with an open bracket.
        return first.rstrip(_BLANK).endswith(b"}")
    return True


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
        if size > self._limit:
            yield Found(line, None, too_long(size, self._limit))
        else:
            yield parse_row(line, text)

    def _judge_list(self, text: bytes, line: int) -> None:
        """Leave out lists under a key that hold no objects; there may be one that does."""
        self._ignored = self._depth == 2 and not text.startswith(b"{")
        if not self._ignored:
            self._lists += 1
        if self._lists > 1:
            raise _Broken(line, "a second list of rows begins here, expected one")
