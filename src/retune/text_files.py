"""Text files that a person wrote: what they hold without marks, and which encoding they are in."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from retune.errors import DataError, RetuneError

BYTE_ORDER_MARK = codecs.BOM_UTF8
MARK = "\ufeff"
"""The same as a sign of a text that was decoded with it."""

# The mark of UTF-32 begins with that of UTF-16: it comes first.
_WIDE_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ONE_BYTE = ("cp1252", "cp850", "mac_roman")
"""Encodings of one byte a sign that files of Western languages are in: Windows, its console, Mac.
"""
_LIKELY = frozenset("áàâãäåéèêëíîïóòôõöúùûüçñÁÀÂÃÄÉÊÍÓÔÕÖÚÜÇÑºª°§“”‘’–—…€ß«»¿¡")
_LEAST_LIKELY = 0.8
_MOST_BEYOND_ASCII = 0.4
_LOOKED_AT = 1 << 20


def read_text_file(path: Path, fault: type[RetuneError] = DataError) -> str:
    """Read a text file as a whole.

    Args:
        path: A file in UTF-8; a byte-order mark at its start is no text, and is left out.
        fault: What to raise.

    Returns:
        Its text, each line's end a line feed.

    Raises:
        RetuneError: The file cannot be opened, or is not UTF-8: of the class `fault`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise fault(f"{path}: cannot be read ({error.strerror}).") from error
    return decode_text(content, path, fault)


def read_json_object(path: Path, fault: type[RetuneError] = DataError) -> dict[str, Any]:
    """Read a JSON file that holds one object, such as a model's settings.

    Args:
        path: A file in UTF-8; a byte-order mark at its start is left out.
        fault: What to raise.

    Returns:
        The object.

    Raises:
        RetuneError: The file cannot be opened, is no JSON, is nested deeper than it can be read,
            or holds something else: of the class `fault`.
    """
    try:
        found = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise fault(
            f"{path}: cannot be read as JSON ({error}). Copy or download it again."
        ) from error
    if not isinstance(found, dict):
        raise fault(f"{path}: expected a JSON object with settings, found {type(found).__name__}.")
    return found


def decode_text(content: bytes, path: Path, fault: type[RetuneError] = DataError) -> str:
    """Decode the bytes of a text file.

    Args:
        content: UTF-8, with a byte-order mark or without.
        path: Where they come from, for messages.
        fault: What to raise.

    Returns:
        The text without the mark, each line's end a line feed.

    Raises:
        RetuneError: They are not UTF-8; the message names line, byte, and the encoding that they
            seem to be in.
    """
    seems = guess_encoding(content)
    if seems is not None and seems.startswith(("utf-16", "utf-32")):
        raise fault(f"{path}: is in {seems}, expected UTF-8; save the file as UTF-8")
    try:
        text = content.removeprefix(BYTE_ORDER_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        looks = f" (the file seems to be in {seems})" if seems else ""
        # `from None`: the error holds the whole file, which may hold a secret.
        raise fault(
            f"{path}:{line}: byte {error.object[error.start]:#04x} is no UTF-8{looks}; save the "
            "file as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def guess_encoding(content: bytes) -> str | None:
    """Guess the encoding of a text from its bytes.

    Args:
        content: The text or its beginning.

    Returns:
        A name that Python knows; None where none is likely.
    """
    content = content[:_LOOKED_AT]
    for mark, name in _WIDE_MARKS:
        if content.startswith(mark):
            return name
    if b"\0" in content:
        return _guess_wide(content)
    try:
        # What is cut off at the end is no fault of the encoding.
        codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return _guess_one_byte(content)
    return "utf-8"


def _guess_wide(content: bytes) -> str | None:
    """Tell UTF-16 without a mark: nearly every second byte of a Western text is NUL."""
    half = len(content) // 2
    if content[1::2].count(0) * 2 > half and not content[::2].count(0):
        return "utf-16-le"
    if content[::2].count(0) * 2 > half and not content[1::2].count(0):
        return "utf-16-be"
    return None


def _guess_one_byte(content: bytes) -> str | None:
    beyond = [byte for byte in content if byte > 127]
    letters = sum(65 <= byte & 0xDF <= 90 for byte in content)
    # In Cyrillic or Greek most letters are beyond ASCII: those are other encodings.
    if len(beyond) > _MOST_BEYOND_ASCII * (letters + len(beyond)):
        return None
    shares = {
        name: sum(sign in _LIKELY for sign in bytes(beyond).decode(name, "replace")) / len(beyond)
        for name in _ONE_BYTE
    }
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= _LEAST_LIKELY else None
