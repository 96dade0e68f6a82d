"""Limits on what a chat template may cost: it comes with a model, from whoever made that.

transformers renders in Jinja's sandbox, where no attribute leads out and no `range` is longer than
100,000. Two of them within each other are ten billion steps all the same.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from retune.errors import ConfigError

T = TypeVar("T")

MOST_SECONDS = 30.0
"""Of processor time, for one chat. Usual templates take less than a thousandth of a second."""
MOST_CHARACTERS = 50_000_000
"""Of one chat; rows are shorter by far (`data.max_row_bytes`)."""
_LOOK_EVERY_S = 0.05


class _Stopped(BaseException):
    """Raised within a rendering by the watch; no `except Exception` in a library takes it."""


class _Watch:
    """One thread that stops renderings of others, which may be of any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadlines: dict[int, float] = {}
        self._thread: threading.Thread | None = None

    def enter(self, seconds: float) -> None:
        with self._lock:
            ident = threading.get_ident()
            self._deadlines[ident] = _spent(ident) + seconds
            # After a fork there is no thread any more, whatever is remembered.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._look, name="chat-template-watch", daemon=True
                )
                self._thread.start()

    def leave(self) -> None:
        ident = threading.get_ident()
        with self._lock:
            if self._deadlines.pop(ident, None) is None:
                # It was stopped in the moment in which it ended: what is on its way is taken back.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), None)

    def _look(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY_S)
            with self._lock:
                if not self._deadlines:
                    self._thread = None
                    return
                late = [each for each, end in self._deadlines.items() if end <= _spent(each)]
                for ident in late:
                    del self._deadlines[ident]
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(ident), ctypes.py_object(_Stopped)
                    )


def _spent(ident: int) -> float:
    """Return the processor seconds of a thread: a busy machine makes no template costly."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic()
    return float(time.clock_gettime(time.pthread_getcpuclockid(ident)))


_WATCH = _Watch()


def render_within(render: Callable[[], T]) -> T:
    """Render a chat, for no longer and no larger than a chat can be.

    Args:
        render: Renders it; returns a text, or anything else that has a length.

    Returns:
        What it returns.

    Raises:
        ConfigError: It took longer, or wrote more.
    """
    try:
        try:
            _WATCH.enter(MOST_SECONDS)
            written = render()
        finally:
            _WATCH.leave()
    except _Stopped:
        raise ConfigError(
            f"The chat template was stopped: it had not written one chat within {MOST_SECONDS:g} s "
            "of processor time. Use "
            "the model's own, or one that comes with retune (prompt.template)."
        ) from None
    if isinstance(written, str) and len(written) > MOST_CHARACTERS:
        raise ConfigError(
            f"The chat template writes {len(written):,} characters for one chat, and "
            f"{MOST_CHARACTERS:,} are allowed. Use the model's own, or one that comes with retune "
            "(prompt.template)."
        )
    return written
