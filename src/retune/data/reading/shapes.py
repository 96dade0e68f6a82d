"""Telling how a JSON file holds its rows, from its beginning and not from its ending.

| shape  | what it is                                                                     |
|--------|--------------------------------------------------------------------------------|
| lines  | an object on each line                                                         |
| array  | one list of objects, on a line or over many                                    |
| object | one object with a list of objects under a key                                  |
| values | objects over several lines, one after the other (as `jq` writes them), or one  |

A file named .jsonl is read as lines unless its first lines can be nothing of the kind.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from retune.data.reading.lines import ByteStream
from retune.text_files import BYTE_ORDER_MARK

Shape = Literal["lines", "array", "object", "values"]

_CHUNK_BYTES = 1 << 18
_BLANK = b" \t\r\n"
_SIGNS = re.compile(rb'"(?:[^"\\\n]|\\.)*("?)|[\[\]{}]')
_FIRST_KEY = re.compile(rb'\{\s*"((?:[^"\\]|\\.)*)"')
_VISIBLE = re.compile(rb"[^ \t\r\n]")
_GOES_ON = (b"[", b"{", b",", b":")
_OF_TURNS = ("role", "from")


class Head:
    """The beginning of a stream, which is given once more.

    Args:
        stream: The open file.
        most: How many bytes are held at most, give or take a piece.
    """

    def __init__(self, stream: ByteStream, most: int) -> None:
        self._stream, self._most = stream, most
        self.held = b""
        self.ended = False

    def more(self) -> bool:
        """Read a piece more; false at the end of the file or of what may be held."""
        if self.ended or len(self.held) > self._most:
            return False
        try:
            chunk = self._stream.read1(_CHUNK_BYTES)
        except EOFError:  # Compressed, and broken off: reading on says so, after these rows.
            return False
        self.ended = not chunk
        self.held += chunk
        return not self.ended

    def text(self) -> bytes:
        """Return what is held from its first sign on."""
        return self.held.removeprefix(BYTE_ORDER_MARK).lstrip(_BLANK)


def tell_shape(head: Head, *, lines: bool) -> Shape:
    """Tell how a file holds its rows.

    Args:
        head: Its beginning; as much is read as is needed, or as may be held.
        lines: Whether its ending says that it holds lines.

    Returns:
        The shape.
    """
    first, second = _two_lines(head)
    if not second:
        return _of_one_line(first, lines=lines)
    if first.startswith(b"["):
        return "lines" if lines and _is_row_of_lines(first, second) else "array"
    if not first.startswith(b"{"):
        return "lines" if lines else "object"
    if _is_whole(first):
        return "lines" if lines or second.startswith(b"{") else "object"
    if not _goes_on(first, second):
        broken = first.endswith(b"}") and second.startswith(b"{")
        return "lines" if lines or broken else "object"
    return _of_many_lines(head, lines=lines)


def _two_lines(head: Head) -> tuple[bytes, bytes]:
    """Return the first two lines that are not blank, the second as far as it is held.

    A first line that is longer than what may be held is given back cut off, and alone.
    """
    looked = 0
    while True:
        begin = _after_blank(
            head.held, len(BYTE_ORDER_MARK) * head.held.startswith(BYTE_ORDER_MARK)
        )
        end = head.held.find(b"\n", max(begin, looked))
        looked = len(head.held)
        if end >= 0:
            next_begin = _after_blank(head.held, end)
            next_end = head.held.find(b"\n", next_begin)
            if next_end >= 0 or not head.more():
                second = head.held[next_begin : next_end if next_end >= 0 else None]
                return head.held[begin:end].strip(_BLANK), second.strip(_BLANK)
            looked = 0
        elif not head.more():
            return head.held[begin:].rstrip(_BLANK), b""


def _after_blank(text: bytes, at: int) -> int:
    match = _VISIBLE.search(text, at)
    return match.start() if match else len(text)


def _of_one_line(line: bytes, *, lines: bool) -> Shape:
    if line.startswith(b"["):
        return "array"
    if lines:
        return "lines"
    return "lines" if _is_row(_parsed(line)) else "object"


def _of_many_lines(head: Head, *, lines: bool) -> Shape:
    """Tell an object that goes on over lines: rows one after the other, one row, or a list in it.

    A value that is longer than a row may be holds rows.
    """
    end = _end_of_value(head)
    if end is None:
        return "object"
    text = head.text()
    while not text[end:].strip(_BLANK + b",") and head.more():
        text = head.text()
    if text[end:].lstrip(_BLANK + b",").startswith(b"{"):
        return "values"
    found = _parsed(text[:end])
    if _is_row(found) or (lines and not _lists_of_objects(found)):
        return "values"
    return "object"


def _end_of_value(head: Head) -> int | None:
    """Return where the first value ends; None where it does not in what may be held."""
    depth = at = 0
    while True:
        text = head.text()
        while match := _SIGNS.search(text, at):
            sign = match.group()
            if sign.startswith(b'"') and not match.group(1) and match.end() + 1 >= len(text):
                break  # The text goes on in what is not held yet.
            at = match.end()
            depth += sign in (b"[", b"{")
            depth -= sign in (b"]", b"}")
            if not depth and not sign.startswith(b'"'):
                return at
        if not head.more():
            return None


def _is_row_of_lines(first: bytes, second: bytes) -> bool:
    """Say whether a first line that begins like a list is one (bad) row of many."""
    if _is_whole(first):
        return True
    return not first.endswith(_GOES_ON) and isinstance(_parsed(second), dict)


def _goes_on(first: bytes, second: bytes) -> bool:
    """Say whether a line that begins an object goes on with the second one."""
    depth, open_signs = 0, b""
    for match in _SIGNS.finditer(first):
        sign = match.group()
        if sign.startswith(b'"'):
            if not match.group(1):
                return False  # A text that is not closed on its line.
            continue
        depth += 1 if sign in b"[{" else -1
        open_signs = open_signs + sign if sign in b"[{" else open_signs[:-1]
    if depth <= 0:
        return False
    if not first.endswith(_GOES_ON):
        return second.startswith((b",", b":", b"}", b"]"))
    if not second.startswith(b"{"):
        return not (open_signs.endswith(b"{") and first.endswith((b"{", b","))) or (
            second.startswith((b'"', b"}"))
        )
    key, next_key = _FIRST_KEY.match(first), _FIRST_KEY.match(second)
    alike = key is not None and next_key is not None and key.group(1) == next_key.group(1)
    if open_signs.endswith(b"{") and not first.endswith(b":"):
        return False
    return not (alike and _is_whole(second))


def _is_whole(line: bytes) -> bool:
    return isinstance(_parsed(line), dict | list)


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_row(found: Any) -> bool:
    """Say whether an object is a row by itself: its list of objects are turns of a chat."""
    lists = _lists_of_objects(found)
    return bool(lists) and all(any(key in each[0] for key in _OF_TURNS) for each in lists)


def _lists_of_objects(found: Any) -> list[list[Any]]:
    values = found.values() if isinstance(found, dict) else ()
    return [
        each for each in values if isinstance(each, list) and each and isinstance(each[0], dict)
    ]
