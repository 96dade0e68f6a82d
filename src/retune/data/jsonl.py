"""Reading JSON Lines with the file and line in every complaint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from retune.errors import DataError
from retune.text_files import BYTE_ORDER_MARK


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ``(line number, object)`` for each non-blank line.

    Args:
        path: A UTF-8 file with one JSON object per line; a byte-order mark is allowed.

    Yields:
        Line numbers that start at 1, and objects.

    Raises:
        DataError: The file is missing, not UTF-8, or a line is not a JSON object.
    """
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _parse_line(path, number, line)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). "
            "Check the path in the recipe; relative paths start at the project root."
        ) from error


def parse_object(text: bytes) -> dict[str, Any]:
    """Parse one JSON object.

    Args:
        text: Its UTF-8 bytes.

    Returns:
        The object.

    Raises:
        DataError: It is none; the message is the reason alone, without a place.
    """
    if b"\0" in text:
        # The parser would speak of a control character, or of a missing value.
        raise DataError(f"byte {text.index(0)} is NUL: no text file has one; delete it")
    try:
        value = json.loads(text.decode("utf-8"), parse_constant=_no)
    except (ValueError, RecursionError) as error:
        raise DataError(f"expected one JSON object, but {_why(error)}") from error
    if not isinstance(value, dict):
        raise DataError(
            f'expected a JSON object such as {{"question": "..."}}, found {type(value).__name__}'
        )
    return value


def _parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    # Without the line break, after which the decoder would count columns anew.
    text = line.rstrip(b"\r\n")
    try:
        return parse_object(text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text)
    except DataError as error:
        raise DataError(f"{path}:{number}: {error}. Mend or delete the line.") from error


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        # A row of a JSON array may span lines; they count from where the row begins.
        line = f"line {error.lineno} of the row, " if error.lineno > 1 else ""
        return f"at {line}column {error.colno}: {error.msg}{_hint(error)}"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8 (save the file as UTF-8)"
    return str(error) or type(error).__name__


def _hint(error: json.JSONDecodeError) -> str:
    if error.doc.lstrip()[:2] in ("{'", '{"') and error.doc[error.pos : error.pos + 1] == "'":
        return " (single quotes: a Python dict as text, no JSON; write rows with json.dumps)"
    if error.msg == "Extra data":
        return " (a second value begins here; expected one object on each line)"
    return ""


def _no(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
