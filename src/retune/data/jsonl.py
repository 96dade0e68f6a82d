"""Reading JSON Lines with the file and line in every complaint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from retune.errors import DataError


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ``(line number, object)`` for each non-blank line.

    Args:
        path: A UTF-8 file with one JSON object per line; a byte-order mark is allowed.

    Yields:
        Line numbers that start at 1, and objects.

    Raises:
        DataError: The file is missing, not UTF-8, or a line is not a JSON object.
    """
    for number, line in read_lines(path):
        yield number, parse_line(path, number, line)


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield ``(line number, bytes)`` for each non-blank line, for who collects all bad lines.

    Args:
        path: The file.

    Yields:
        Line numbers that start at 1, and lines.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). "
            "Check the path in the recipe; relative paths start at the project root."
        ) from error


def parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """Parse one line of `read_lines`.

    Args:
        path: The file, for the message.
        number: The line's number.
        line: Its bytes.

    Returns:
        The object.

    Raises:
        DataError: The line is not UTF-8 or not a JSON object.
    """
    try:
        # Without the line break, after which the decoder would count columns anew.
        text = line.rstrip(b"\r\n").decode("utf-8-sig" if number == 1 else "utf-8")
        value = json.loads(text, parse_constant=_no)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}:{number}: expected one JSON object on this line, but {_why(error)}. "
            "Mend or delete the line."
        ) from error
    if not isinstance(value, dict):
        raise DataError(
            f"{path}:{number}: expected a JSON object, found {type(value).__name__}. "
            'Each line must look like {"question": "...", "query": "..."}.'
        )
    return value


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"at column {error.colno}: {error.msg}"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    return str(error) or type(error).__name__


def _no(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
