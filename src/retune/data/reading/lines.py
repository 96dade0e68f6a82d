"""Lines of bounded length, and JSON Lines made of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from retune.data.jsonl import parse_object
from retune.errors import DataError
from retune.text_files import BYTE_ORDER_MARK

_SKIPPED_AT_ONCE = 1 << 18
_BLANK = b" \t\r\n"
_ENDS_IN_LIST = b"},"
"""A line of what was a list over lines, without the brackets around it."""


class ByteStream(Protocol):
    """An open file, plain or compressed.

    Never `read`: of a compressed file that breaks off it would lose what came before the break.
    """

    def peek(self, size: int, /) -> bytes:
        """Return bytes ahead without moving on."""

    def read1(self, size: int = -1, /) -> bytes:
        """Return at most so many bytes, what one look at the file gives."""

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return bytes up to a line's end."""


class Found(NamedTuple):
    """A row as it stands in its file; without a value, the reason why it cannot be read."""

    line: int
    value: dict[str, Any] | None
    reason: str = ""


class Line(NamedTuple):
    """A line with its number; without its text where it is too long to be held."""

    number: int
    text: bytes | None
    length: int


def bounded_lines(stream: ByteStream, limit: int) -> Iterator[Line]:
    """Yield lines, of which none is held that is longer than a limit.

    Args:
        stream: An open file; a byte-order mark at its start is left out.
        limit: Most bytes of a line, its end not counted.

    Yields:
        Every line, blank ones too, numbered from 1.
    """
    number = 0
    while text := stream.readline(limit + 1):
        number += 1
        if number == 1:
            text = text.removeprefix(BYTE_ORDER_MARK)
        if len(text) <= limit or text.endswith(b"\n"):
            yield Line(number, text, len(text))
            continue
        length, text = len(text), b""
        while rest := stream.readline(_SKIPPED_AT_ONCE):
            length += len(rest)
            if rest.endswith(b"\n"):
                break
        yield Line(number, None, length)


def read_lines(stream: ByteStream, limit: int) -> Iterator[Found]:
    """Yield the rows of a file that holds an object on each line.

    Args:
        stream: The open file.
        limit: Most bytes of a row.

    Yields:
        A row per non-blank line.
    """
    for number, text, length in bounded_lines(stream, limit):
        if text is None:
            yield Found(number, None, too_long(length, limit))
        elif text := text.strip(_BLANK).removeprefix(BYTE_ORDER_MARK):
            # A mark inside of a file: that of a second file that was put behind the first.
            yield parse_row(number, text[:-1] if text.endswith(_ENDS_IN_LIST) else text)


def parse_row(line: int, text: bytes) -> Found:
    """Parse a row, or say why it cannot be."""
    try:
        return Found(line, parse_object(text))
    except DataError as error:
        return Found(line, None, str(error))


def too_long(length: int, limit: int) -> str:
    """Say that a row is too long."""
    return (
        f"the row has {length:,} bytes, data.max_row_bytes allows {limit:,}; raise it if that is "
        "one row and no broken file"
    )
