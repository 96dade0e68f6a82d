"""The log of served requests: its newest lines, found without reading the rest, and what they ask.

A log is written while it is read. What is looked at is therefore settled once, as stretches of
bytes of its files, and known by the digest of those bytes: what is appended later changes nothing.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from retune.data.jsonl import parse_object
from retune.errors import DataError
from retune.records import ContentRecord, Record
from retune.text_files import BYTE_ORDER_MARK, guess_encoding

KEY = "retrain.triggers.drift.log"
"""Where the recipe names the log, for messages."""
ENDING = ".jsonl"
_BLOCK_BYTES = 1 << 16
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


class LogPart(Record):
    """Whole lines of one file: its bytes from `start` up to `end`."""

    path: Path
    start: int
    end: int


class LogRef(ContentRecord):
    """The newest lines of a log; its digest is of their bytes, wherever they stand."""

    name: str
    """As the recipe names it."""
    parts: tuple[LogPart, ...]
    """In the order of the files' names, the newest line last."""


class Request(NamedTuple):
    """What one line asked."""

    text: str | None
    """None where it is a chat."""
    messages: list[dict[str, str]] | None
    """The chat up to what was asked; None where it is a text."""
    label: str | None
    """The class that was predicted; None where the line names none."""


class BadLine(NamedTuple):
    """A line that says nothing of what was asked."""

    place: str
    """``file:line``, the line counted from the first one that was looked at where others stand
    before it."""
    reason: str


def locate_log(written: Path, path: Path, most: int) -> LogRef | None:
    """Find the newest lines of a log.

    Args:
        written: The path or glob as the recipe has it.
        path: The same, absolute.
        most: Most lines, those without anything on them left out.

    Returns:
        The lines; None where no request was served yet: the folder is there, and no file, or
        nothing is in it.

    Raises:
        DataError: Not even the folder is there, a file is no `.jsonl`, or one cannot be read.
    """
    parts: list[LogPart] = []
    left = most
    for file in reversed(_find_files(written, path)):
        if not left:
            break
        start, end, lines = _find_last_lines(file, left)
        left -= lines
        if lines:
            parts.insert(0, LogPart(path=file, start=start, end=end))
    if not parts:
        return None
    content = sha256()
    for part in parts:
        content.update(_read(part))
    return LogRef(digest=content.hexdigest(), name=written.as_posix(), parts=tuple(parts))


def _find_files(written: Path, path: Path) -> list[Path]:
    has_pattern = glob.has_magic(str(path)) and not path.exists()
    found = [Path(each) for each in glob.glob(str(path), recursive=True)] if has_pattern else [path]
    files = sorted(each for each in found if each.is_file())
    folder = next(each for each in path.parents if not glob.has_magic(str(each)))
    if path.is_dir() or not (files or folder.is_dir()):
        what = "is a folder" if path.is_dir() else f"cannot be there: {folder} does not exist"
        raise DataError(
            f"{KEY}: {path} {what}. Expected a file or glob such as {written.parent.as_posix()}/"
            "*.jsonl; relative paths start at the project root."
        )
    other = [each for each in files if each.suffix != ENDING]
    if other:
        raise DataError(
            f"{KEY}: {other[0]} does not end in {ENDING}. Write requests as JSON Lines, an object "
            "a line, or name only such files."
        )
    return files


def _find_last_lines(file: Path, most: int) -> tuple[int, int, int]:
    """Return where the last lines begin and end, and how many have something on them."""
    try:
        with open(file, "rb") as log:
            end = start = log.seek(0, 2)
            tail, step = b"", _BLOCK_BYTES
            # The first line of what was read may be no whole one.
            while start and _count_lines(tail.partition(b"\n")[2]) < most:
                before, step = start, 2 * step
                start = log.seek(max(0, start - step))
                tail = log.read(before - start) + tail
    except OSError as error:
        raise DataError(f"{KEY}: {file} cannot be read ({error.strerror or error}).") from error
    lines = tail.split(b"\n")
    full = [at for at, line in enumerate(lines) if line.strip()][-most:]
    if not full:
        return end, end, 0
    return end - len(b"\n".join(lines[full[0] :])), end, len(full)


def _count_lines(text: bytes) -> int:
    return sum(bool(line.strip()) for line in text.split(b"\n"))


def _read(part: LogPart) -> bytes:
    try:
        with open(part.path, "rb") as log:
            log.seek(part.start)
            return log.read(part.end - part.start)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{KEY}: {part.path} cannot be read ({reason}).") from error


def iterate_requests(
    log: LogRef, column: str, encoding: str | None, bad: Callable[[BadLine], None]
) -> Iterator[Request]:
    """Yield what the lines of a log ask.

    Args:
        log: Its newest lines.
        column: Key of what was asked; `messages` is looked for where a line does not have it.
        encoding: What lines may be in that are not UTF-8, as JSON should be; None for no other.
        bad: Told of each line that asks nothing.

    Yields:
        Requests, the oldest first.

    Raises:
        DataError: The bytes are others than when the lines were found.
    """
    contents = [_read(part) for part in log.parts]
    if sha256(b"".join(contents)).hexdigest() != log.digest:
        raise DataError(f"{KEY}: {log.name} was rewritten since the run began. Run it again.")
    for part, content in zip(log.parts, contents, strict=True):
        for number, line in enumerate(content.split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                yield read_request(line, column, encoding)
            except DataError as error:
                from_there = f" (from byte {part.start} on)" if part.start else ""
                bad(BadLine(f"{part.path}:{number}{from_there}", str(error)))


def read_request(line: bytes, column: str, encoding: str | None) -> Request:
    """Read one line of a log.

    Args:
        line: Its bytes.
        column: Key of what was asked.
        encoding: See `iterate_requests`.

    Returns:
        The request. Of a chat, the messages up to what was asked: an answer behind it is left out.

    Raises:
        DataError: The line asks nothing; the message is the reason alone.
    """
    value = parse_object(_as_utf8(line, encoding))
    asked, label = value.get(column), value.get("label")
    named = str(label) if isinstance(label, str | int) and str(label).strip() else None
    if isinstance(asked, str) and asked.strip():
        return Request(_clean(asked), None, _clean(named) if named else None)
    if asked is not None and not isinstance(asked, list):
        kind = "blank" if isinstance(asked, str) else f"a {type(asked).__name__}"
        raise DataError(f"its {column} is {kind}, expected a text")
    turns = value.get("messages") if asked is None else asked
    if turns is None:
        raise DataError(f"expected {column} (a text) or messages (a chat), found {_keys(value)}")
    return Request(None, _read_chat(turns), _clean(named) if named else None)


def _as_utf8(line: bytes, encoding: str | None) -> bytes:
    line = line.rstrip(b"\r").removeprefix(BYTE_ORDER_MARK)
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        try:
            return line.decode(encoding or "utf-8").encode("utf-8")
        except UnicodeError as error:
            tried = f"UTF-8 or {encoding} (data.encoding)" if encoding else "UTF-8"
            seems = guess_encoding(line)
            told = f"; it seems to be in {seems}" if seems else ""
            raise DataError(f"is not {tried}{told}: write the log in UTF-8") from error
    return line


def _read_chat(turns: Any) -> list[dict[str, str]]:
    if not isinstance(turns, list) or not turns:
        raise DataError("its messages are no list of turns")
    chat = [_read_turn(turn) for turn in turns]
    while chat and chat[-1]["role"] == "assistant":
        chat.pop()
    if not any(turn["role"] == "user" and turn["content"].strip() for turn in chat):
        raise DataError("its messages have no turn of a user")
    return chat


def _read_turn(turn: Any) -> dict[str, str]:
    role = turn.get("role") if isinstance(turn, dict) else None
    if not isinstance(role, str) or role not in _ROLES:
        raise DataError(f"a turn of its messages has no known role ({role!a})")
    content = turn.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "\n".join(text for text in texts if isinstance(text, str))
    if content is not None and not isinstance(content, str):
        raise DataError(f"the content of a turn is a {type(content).__name__}, expected a text")
    return {"role": role, "content": _clean(content or "")}


def _clean(text: str) -> str:
    # A lone surrogate, which JSON can write and UTF-8 cannot.
    return text.encode("utf-8", "replace").decode("utf-8")


def _keys(value: dict[str, Any]) -> str:
    return ", ".join(sorted(value)[:8]) or "no key"


def refuse_unreadable(log: LogRef, bad: Sequence[BadLine]) -> None:
    """Stop where no line of a log can be read.

    Args:
        log: The lines that were looked at.
        bad: All of them.

    Raises:
        DataError: Always; it names the first three.
    """
    shown = "\n".join(f"  {each.place}: {each.reason}" for each in bad[:3])
    more = f"\n  and {len(bad) - 3:,} more" if len(bad) > 3 else ""
    raise DataError(f"{KEY}: no line of {log.name} can be read.\n{shown}{more}")
