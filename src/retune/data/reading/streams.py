"""Open files as bytes of UTF-8, whatever encoding and ends of lines they are in.

What is no text at all (another kind of file under this ending) is told from its first bytes.
"""

from __future__ import annotations

import codecs
import gzip
from io import BufferedReader, FileIO

from retune.data.reading.lines import ByteStream
from retune.errors import DataError
from retune.text_files import BYTE_ORDER_MARK, guess_encoding

_CHUNK_BYTES = 1 << 18
_HEAD_BYTES = 1 << 12
_MOST_GUESSED_AT = 64
_MARK_OF_FAULT = "retune.undecodable"
_GZIP = b"\x1f\x8b"
_KINDS = (
    (_GZIP, "compressed with gzip; let its name end with .gz"),
    (b"PAR1", "Parquet; let its name end with .parquet"),
    (b"PK\x03\x04", "a zip archive (or an Excel file); unpack it, or save the table as .csv"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Office file; save the table as .csv"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it, or compress it with gzip"),
    (b"BZh", "compressed with bzip2; unpack it, or compress it with gzip"),
    (b"\xfd7zXZ", "compressed with xz; unpack it, or compress it with gzip"),
    (b"SQLite format 3", "a SQLite database; export the table as .csv or .jsonl"),
    (b"ARROW1", "an Arrow file; save it as .parquet"),
    (b"%PDF-", "a PDF; rows are read from tables and JSON"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself; run `git lfs pull`"),
)
_PAGES = (b"<!doctype html", b"<html", b"<?xml")

# Any byte that an encoding does not have becomes one that UTF-8 does not have: the row is told.
codecs.register_error(_MARK_OF_FAULT, lambda error: ("\udcff", error.end))  # type: ignore[attr-defined]


def open_stream(raw: BufferedReader[FileIO], ending: str, encoding: str | None) -> ByteStream:
    """Look at an open file, and make a stream of UTF-8 of it.

    Args:
        raw: The file.
        ending: Its ending, one of those that are read as text.
        encoding: What it is in; None for UTF-8.

    Returns:
        The stream, decompressed.

    Raises:
        DataError: It is another kind of file, or in another encoding; the message is the reason
            alone.
        EOFError: It is compressed, and breaks off.
    """
    stream: ByteStream = gzip.GzipFile(fileobj=raw) if ending.endswith(".gz") else raw
    head = stream.peek(_HEAD_BYTES)
    refuse_other_kinds(head)
    seems = guess_encoding(head)
    wide = seems if seems is not None and seems.startswith(("utf-16", "utf-32")) else None
    if encoding is None:
        if wide:
            raise DataError(f"the file is in {wide}: {_state(wide)}")
        return Recoded(stream, "utf-8") if _has_old_ends(head) else stream
    if encoding.replace("_", "-").startswith(("utf-16", "utf-32")):
        if seems == "utf-8" and head:
            raise DataError(f"the file is not in {encoding}, as stated: {_state('utf-8')}")
    elif head.startswith(BYTE_ORDER_MARK):
        raise DataError(f"the file begins with the mark of UTF-8: {_state('utf-8')}")
    elif wide:
        raise DataError(f"the file is in {wide}, not in {encoding} as stated: {_state(wide)}")
    return Recoded(stream, _with_order(encoding, seems))


def _with_order(encoding: str, seems: str | None) -> str:
    """Name the order of bytes where a file begins with no mark that does, as the decoder wants."""
    if encoding not in ("utf-16", "utf-32") or seems == encoding:
        return encoding
    return seems if seems is not None and seems.startswith(encoding) else f"{encoding}-le"


def _state(encoding: str) -> str:
    return (
        f"write data.encoding: {encoding} (or encoding: {encoding} at the source), or save it as "
        "UTF-8"
    )


def refuse_other_kinds(head: bytes) -> None:
    """Refuse a file that its beginning shows to be of another kind than its ending says.

    Args:
        head: Its first bytes.

    Raises:
        DataError: It is; the message is the reason alone.
    """
    for beginning, what in _KINDS:
        if head.startswith(beginning):
            raise DataError(f"the file is {what}")
    if head.removeprefix(BYTE_ORDER_MARK).lstrip()[:15].lower().startswith(_PAGES):
        raise DataError("the file is a page (HTML or XML), as servers send in place of a file")


def _has_old_ends(head: bytes) -> bool:
    """Say whether lines end as on the Macs of old: with a carriage return alone."""
    return b"\n" not in head and b"\r" in head.rstrip(b"\r")


def guess_of_file(stream: ByteStream) -> str | None:
    """Guess the encoding of a file that is not UTF-8, from the first part that shows it.

    Args:
        stream: The file from its beginning.

    Returns:
        A name that Python knows; None where none is likely.
    """
    for _ in range(_MOST_GUESSED_AT):
        chunk = stream.read1(_CHUNK_BYTES)
        if not chunk:
            break
        # What is cut off at the beginning of a part is no fault of the encoding.
        found = guess_encoding(chunk.lstrip(bytes(range(0x80, 0xC0))) or chunk)
        if found != "utf-8":
            return found
    return None


class Recoded:
    """A stream in UTF-8 of one that is in another encoding, or has other ends of lines.

    Args:
        stream: The stream as it lies on the disk.
        encoding: What it is in.
    """

    def __init__(self, stream: ByteStream, encoding: str) -> None:
        self._stream, self._encoding = stream, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)(_MARK_OF_FAULT)
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._doubted = not encoding.replace("_", "-").startswith("utf-")
        self._old_ends = _has_old_ends(stream.peek(_HEAD_BYTES))
        self._held = bytearray()
        self._ended = False

    def peek(self, size: int, /) -> bytes:
        """Return bytes ahead without moving on."""
        if not self._held:
            self._fill()
        return bytes(self._held)

    def read1(self, size: int = -1, /) -> bytes:
        """Return at most so many bytes, what one look at the file gives."""
        while not self._held and not self._ended:
            self._fill()
        return self._take(len(self._held) if size < 0 else size)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return bytes up to a line's end."""
        most = -1 if size is None else size
        looked = 0
        while True:
            end = self._held.find(b"\n", looked)
            if 0 <= most < (end + 1 or len(self._held)):
                return self._take(most)
            if end >= 0:
                return self._take(end + 1)
            if self._ended:
                return self._take(len(self._held))
            looked = len(self._held)
            self._fill()

    def _take(self, size: int) -> bytes:
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    def _fill(self) -> None:
        chunk = self._stream.read1(_CHUNK_BYTES)
        self._ended = not chunk
        if self._doubted:
            self._refuse_utf8(chunk)
        try:
            text = self._decoder.decode(chunk, final=self._ended)
        except UnicodeError as error:  # Some decoders ask nobody what to do.
            raise DataError(f"the file is not readable as {self._encoding} ({error})") from error
        if self._old_ends:
            text = text.replace("\r", "\n")
        self._held += text.encode("utf-8", "surrogatepass")

    def _refuse_utf8(self, chunk: bytes) -> None:
        """Refuse what is valid UTF-8 with signs beyond ASCII: hardly a text of any other is."""
        if chunk.isascii():
            return
        self._doubted = False
        try:
            self._utf8.decode(chunk)
        except UnicodeDecodeError:
            return
        raise DataError(
            f"the file is in UTF-8, not in {self._encoding} as stated: {_state('utf-8')}"
        )
