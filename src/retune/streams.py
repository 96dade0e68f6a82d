"""Standard output and error that never end a run: what cannot be shown is replaced or dropped.

A terminal may not know a sign (``PYTHONIOENCODING=cp1252``, ``LANG=C``), the reader of a pipe may
be gone (``| head``), a file may lie on a full disk. Left alone, each of them raises where something
is printed, which may be after a model was promoted. Every way to print ends in `sys.stdout` or
`sys.stderr`, so that is where it is mended; it has to be done before a library keeps the old ones.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_READERS_GONE = (errno.EPIPE, errno.EIO)
"""A closed pipe, a closed terminal: nobody misses what is not shown."""
_STRICT = ("strict", "surrogateescape")
_NAMES = {1: "stdout", 2: "stderr"}


class _UnfailingFile(io.FileIO):
    """A file whose first failed write is remembered, and whose later ones are dropped."""

    failure: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        size = memoryview(data).nbytes
        if self.failure is not None:
            return size
        try:
            return self._write(data)
        except OSError as error:
            self.failure = error
            return size

    def _write(self, data: ReadableBuffer) -> int:
        written = cast(int | None, super().write(data))
        while written is None:
            # Another program has made the terminal non-blocking, and it is full.
            select.select([], [self.fileno()], [])
            written = cast(int | None, super().write(data))
        return written


def settle_streams() -> None:
    """Make standard output and error unfailing, where they are still the interpreter's own."""
    _fill_closed()
    for handle, name in _NAMES.items():
        stream = getattr(sys, name)
        own = getattr(sys, f"__{name}__")
        if stream is None or (stream is own and isinstance(stream, io.TextIOWrapper)):
            setattr(sys, name, _unfailing(handle, stream))


def lost_output() -> str | None:
    """Say what could not be written though somebody may miss it; None where all was."""
    for name in _NAMES.values():
        failure = _failure(getattr(sys, name))
        if failure is not None and failure.errno not in _READERS_GONE:
            return f"{name} could not be written ({failure.strerror}): what it got is incomplete."
    return None


def _unfailing(handle: int, old: io.TextIOWrapper | None) -> io.TextIOWrapper:
    if old is not None:
        old.flush()
    encoding = old.encoding if old else "utf-8"
    errors = (old.errors if old else None) or "strict"
    file = _UnfailingFile(handle, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=encoding,
        # Names of files that are no text are strict in UTF-8 too.
        errors="replace" if errors in _STRICT else errors,
        line_buffering=old.line_buffering if old else False,
        write_through=old.write_through if old else False,
    )


def _failure(stream: IO[str] | None) -> OSError | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.failure if isinstance(raw, _UnfailingFile) else None


def _fill_closed() -> None:
    """Open what the caller has closed, else the next file or socket gets its number."""
    for handle in (0, 1, 2):
        try:
            os.fstat(handle)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, handle)
            if nothing != handle:
                os.close(nothing)
