"""Files of rows by their ending, read one after the other."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, NamedTuple

from retune.data.reading.arrays import read_json, read_json_lines
from retune.data.reading.columnar import read_parquet
from retune.data.reading.delimited import read_csv, read_tsv
from retune.data.reading.lines import ByteStream, Found
from retune.data.reading.streams import guess_of_file, open_stream
from retune.errors import DataError

_READERS: dict[str, Callable[[ByteStream, int], Iterator[Found]]] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
}
ENDINGS = (*_READERS, ".parquet", *(f"{ending}.gz" for ending in _READERS))
"""Endings of files that can be read."""

_BUFFER_BYTES = 1 << 18
_LARGEST_LIMIT = (1 << 31) - 16  # What the csv parser can be told on every machine.
_NOT_UTF8 = "is not UTF-8"
_BROKEN_GZIP = (EOFError, gzip.BadGzipFile, zlib.error)


class RawRow(NamedTuple):
    """A row as it stands in its source; without a value, the reason why it cannot be read."""

    file: int
    line: int
    value: dict[str, Any] | None
    reason: str = ""
    position: int = 0
    """Bytes of all files that were read so far."""


def ending_of(path: Path) -> str | None:
    """Return which of the known endings a file has; None for another."""
    name = path.name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending)), None)


def read_files(files: Sequence[Path], limit: int, encoding: str | None = None) -> Iterator[RawRow]:
    """Yield the rows of files; no fault of one row or file loses another.

    Args:
        files: Files with one of `ENDINGS`.
        limit: Most bytes of a row, as UTF-8.
        encoding: What text files are in; None for UTF-8.

    Yields:
        Rows in the order of the files.

    Raises:
        DataError: A file cannot be opened.
    """
    limit = min(limit, _LARGEST_LIMIT)
    encoding = None if encoding == "utf-8" else encoding
    before = 0
    for place, path in enumerate(files):
        try:
            size = path.stat().st_size
            for found, position in _read_file(path, limit, size, encoding):
                yield RawRow(place, *found, position=before + position)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
        before += size


def _read_file(
    path: Path, limit: int, size: int, encoding: str | None
) -> Iterator[tuple[Found, int]]:
    line = 0
    ending = ending_of(path) or ".jsonl"
    explained = _Explained(path, ending, encoding)
    try:
        if ending == ".parquet":
            for found in read_parquet(path, limit):
                line = found.line
                yield found, size
            return
        with BufferedReader(FileIO(path), _BUFFER_BYTES) as raw:
            stream = open_stream(raw, ending, encoding)
            for found in _READERS[ending.removesuffix(".gz")](stream, limit):
                line = found.line
                yield explained.add(found), raw.tell()
    except _BROKEN_GZIP as error:
        reason = f"the compressed file is broken ({error}); what follows in it is not read"
        yield Found(line + 1, None, reason), size
    except DataError as error:
        yield Found(line + 1, None, str(error)), size


class _Explained:
    """Says of rows that are not in the expected encoding which one the file seems to be in."""

    def __init__(self, path: Path, ending: str, encoding: str | None) -> None:
        self._path, self._ending, self._encoding = path, ending, encoding
        self._hint: str | None = None

    def add(self, found: Found) -> Found:
        if found.value is not None or _NOT_UTF8 not in found.reason:
            return found
        if self._encoding is not None:
            told = f"is not {self._encoding}"
            return found._replace(reason=found.reason.replace(_NOT_UTF8, told, 1))
        if self._hint is None:
            self._hint = self._guess()
        return found._replace(reason=found.reason + self._hint)

    def _guess(self) -> str:
        try:
            with BufferedReader(FileIO(self._path), _BUFFER_BYTES) as raw:
                packed = self._ending.endswith(".gz")
                stream: ByteStream = gzip.GzipFile(fileobj=raw) if packed else raw
                seems = guess_of_file(stream)
        except _BROKEN_GZIP:
            return ""
        if seems is None:
            return ""
        return f": the file seems to be in {seems}; then write data.encoding: {seems}"
