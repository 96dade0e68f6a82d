"""Telling those who are not here: which version a server does not answer with, and why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from retune.registry.records import ServedKind

LOG = logging.getLogger("retune.serving")


class Notice(NamedTuple):
    """A version that an alias names, and that does not answer.

    Attributes:
        kind: Whether it was not let in, or answers no more.
        version: Its number.
        reason: Why, as everybody may read it.
    """

    kind: ServedKind
    version: int
    reason: str


class Notices:
    """Passes notices on, one after another and beside the answers, which never wait for it.

    Args:
        tell: Writes one down, and may take its time; None where nobody is told.
    """

    def __init__(self, tell: Callable[[Notice], None] | None) -> None:
        self._tell, self._turn = tell, asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, notice: Notice) -> None:
        """Begin to pass a notice on."""
        if self._tell is not None:
            task = asyncio.create_task(self._pass_on(self._tell, notice))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, tell: Callable[[Notice], None], notice: Notice) -> None:
        async with self._turn:
            try:
                await asyncio.to_thread(tell, notice)
            except Exception as error:  # noqa: BLE001 - the registry is away, say: answers go on
                LOG.error(
                    "that version %s is %s could not be told: %s: %s",
                    notice.version,
                    notice.kind.replace("_", " "),
                    type(error).__name__,
                    error,
                )

    async def close(self, seconds: float) -> None:
        """Wait for those that are under way, and no longer than so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
