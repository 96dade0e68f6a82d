"""Stopping a stage process on SIGTERM: at once, or at the next safe point where one is declared."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from retune.errors import Interrupted

_MESSAGE = "Stopped on request. Finished stages and checkpoints are kept: run again to go on."


class StopSignal:
    """Remembers that a stop was asked for, and raises it where that is safe."""

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    def install(self) -> None:
        """Take over SIGTERM; ignore SIGINT, which a terminal sends to parent and child alike."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_terminate)

    @contextmanager
    def deferred(self) -> Iterator[StopSignal]:
        """Only remember a stop inside this block; the block looks at `requested` itself."""
        self._deferred = True
        try:
            yield self
        finally:
            self._deferred = False

    def raise_if_requested(self) -> None:
        """Raise at a safe point.

        Raises:
            Interrupted: A stop was asked for.
        """
        if self.requested:
            raise Interrupted(_MESSAGE)

    def _on_terminate(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True
        if not self._deferred:
            raise Interrupted(_MESSAGE)


STOP = StopSignal()
"""The process's one stop signal."""


@contextmanager
def keeping_handlers() -> Iterator[None]:
    """Give SIGTERM and SIGINT back to who had them: libraries that start processes take them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
