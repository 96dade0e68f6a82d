"""Rows that are objects over several lines, one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator

from retune.data.reading.lines import ByteStream, Found, bounded_lines, parse_row, too_long

_SIGNS = re.compile(rb'"(?:[^"\\\n]|\\.)*("?)|[\[\]{}]')
_BLANK = b" \t\r\n"


def read_values(stream: ByteStream, limit: int) -> Iterator[Found]:
    """Yield objects that stand one after the other.

    A value that is broken is given up alone: reading goes on at the next line that begins with a
    brace, as none does inside of a value whose lines are indented.

    Args:
        stream: The open file.
        limit: Most bytes of a row.

    Yields:
        The rows, with the line where each begins.
    """
    cutter = _Cutter(limit)
    for number, text, length in bounded_lines(stream, limit):
        if text is None:
            yield cutter.give_up(number, too_long(length, limit))
        else:
            yield from cutter.feed(number, text)
    yield from cutter.finish()


class _Cutter:
    """Cuts lines into objects."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._begin = self._depth = 0
        self._lost = False

    def feed(self, number: int, text: bytes) -> Iterator[Found]:
        if self._lost and not text.startswith(b"{"):
            return
        self._lost = False
        if not self._held:
            text = text.lstrip(_BLANK + b",")
            self._begin = number
        begin = 0
        for match in _SIGNS.finditer(text):
            sign = match.group()
            if sign.startswith(b'"'):
                if not match.group(1):
                    yield self.give_up(number, f"a text is not closed on line {number}")
                    return
                continue
            self._depth += 1 if sign in b"[{" else -1
            if self._depth <= 0:
                self._held += text[begin : match.end()]
                yield self._row()
                begin, self._begin = match.end(), number
        rest = text[begin:]
        self._held += rest if self._depth or rest.strip(_BLANK + b",") else b""
        if self._held and not self._depth:
            yield self._row()
        if len(self._held) > self._limit + 2:
            yield self.give_up(number, too_long(len(self._held), self._limit))

    def finish(self) -> Iterator[Found]:
        if self._held.strip(_BLANK):
            yield Found(self._begin, None, "the file ends inside what begins here")

    def give_up(self, number: int, reason: str) -> Found:
        begin = self._begin if self._held else number
        self._held.clear()
        self._depth, self._lost = 0, True
        return Found(begin, None, reason)

    def _row(self) -> Found:
        text = bytes(self._held).strip(_BLANK + b",")
        self._held.clear()
        self._depth = 0
        return parse_row(self._begin, text)
