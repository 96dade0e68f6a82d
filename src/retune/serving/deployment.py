"""The model that answers, and the one that takes its place when the alias moves.

The new version is loaded and proved in a process of its own beside the old one. Only then do new
requests go to it; the old one ends once it has answered what it was asked. Where the memory does
not hold both, the old one ends first. A version that fails its proof is refused, and the old one
stays, or is loaded again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from retune.errors import RetuneError, ServiceError
from retune.serving.finding import ModelSource
from retune.serving.memory_room import Swap, find_lack
from retune.serving.messages import EngineSettings, ServedModel
from retune.serving.metrics import Metrics
from retune.serving.notices import Notice
from retune.serving.worker_process import WorkerProcess

LOG = logging.getLogger("retune.serving")
_DRAIN_POLL_SECONDS = 0.05
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 3600.0
"""Seconds until a version whose process died while it was loaded is tried again."""


class Deployment:
    """Answers with the model that a name points to, whichever that is.

    Args:
        source: The name.
        first: The model that it pointed to when the server began.
        settings: How answers are computed.
        metrics: Told of restarts and swaps.
        tell: Told once of each version that is refused, and why.
        swap: Whether a new version is loaded beside the old one.
        poll_seconds: How often the alias is looked at.
        drain_seconds: How long a process that was replaced may answer what it was asked.
    """

    def __init__(
        self,
        source: ModelSource,
        first: ServedModel,
        settings: EngineSettings,
        metrics: Metrics,
        tell: Callable[[Notice], None],
        swap: Swap,
        poll_seconds: float,
        *,
        drain_seconds: float,
    ) -> None:
        self._source, self._settings, self._metrics = source, settings, metrics
        self._tell, self._told, self._swap_by = tell, set[str](), swap
        self._poll_seconds, self._drain_seconds = poll_seconds, drain_seconds
        self.refused: tuple[int, str] | None = None
        """The version that the alias points to and that is not let in, and why."""
        self._unfit: int | None = None
        self._deaths, self._not_before = 0, 0.0
        self.current = self._start(first)
        self._first = asyncio.create_task(self._tell_if_unfit(self.current))
        self._draining: set[asyncio.Task[None]] = set()
        self._poll = asyncio.create_task(self._follow()) if source.follows else None

    @property
    def model(self) -> ServedModel:
        """What answers now."""
        return self.current.model

    async def stop(self) -> None:
        """End all processes."""
        tasks = [self._first, *self._draining, *([self._poll] if self._poll else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.current.stop()

    def _start(self, model: ServedModel) -> WorkerProcess:
        return WorkerProcess(model, self._settings, self._metrics.restarts.inc)

    async def _tell_if_unfit(self, first: WorkerProcess) -> None:
        """Tell of the version that the server began with, where nothing answers for want of it."""
        if await first.settled() == "unfit" and first.model.version is not None:
            self._tell(Notice("refused", first.model.version, first.reason))

    async def _follow(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self.look()
                told = ""
            except Exception as error:  # noqa: BLE001 - or the alias would be followed no more
                # The registry is away, a disk is full, a lock is held: what answers, stays.
                why = f"{type(error).__name__}: {error}"
                if why != told:
                    LOG.warning("the alias cannot be followed: %s", why)
                told = why

    async def look(self) -> None:
        """Look where the alias points to, and let another version in that proves itself.

        Raises:
            ServiceError: MLflow does not answer.
        """
        target = await asyncio.to_thread(self._source.target)
        if self.refused is not None and target != self.refused[0]:
            self.refused, self._unfit, self._deaths, self._not_before = None, None, 0, 0.0
            self._told.clear()
        if target in (None, self.model.version, self._unfit):
            return
        if target is not None and time.monotonic() >= self._not_before:
            await self._swap(target)

    async def _swap(self, target: int) -> None:
        try:
            model = await asyncio.to_thread(self._source.find)
        except ServiceError:
            raise
        except RetuneError as error:
            # Looked for again: what is missing may be brought.
            self._refuse(target, error.message)
            return
        if model.version == self.model.version:
            return
        lack = await self._find_lack(model)
        if lack:
            await self._take_turns(model, lack)
        else:
            await self._swap_beside(model)

    async def _find_lack(self, model: ServedModel) -> str:
        """Say why a version cannot be loaded beside the one that answers; empty where it can."""
        if self._swap_by != "auto":
            return "" if self._swap_by == "beside" else "one at a time is held (--swap drain)"
        measured = await self.current.measure()
        return find_lack(measured, self.model, model) if measured is not None else ""

    async def _take_turns(self, model: ServedModel, lack: str) -> None:
        """Let the old version answer what it has, then load the new one; if unfit, the old again.

        Whoever asks meanwhile is told to try again. A version that does not come up is not tried
        once more, even if its process died: each try takes the old one out of service.
        """
        before = self.current
        told = f"{model.address} is loaded in place of {before.model.address}: {lack}"
        LOG.info("%s", told)
        before.close(told)
        await drain(before, self._drain_seconds)
        self.current = self._start(model)
        state = await self.current.settled()
        if state == "ready":
            self._taken(before)
            return
        failed = self.current
        reason = failed.reason if state == "unfit" else "its process died before it was ready"
        await failed.stop()
        self.current = self._start(before.model)
        self._unfit = model.version
        self._refuse(model.version or 0, reason, "; it was loaded alone, and is not tried again")

    async def _swap_beside(self, model: ServedModel) -> None:
        LOG.info("%s is loaded and proved beside %s", model.address, self.model.address)
        challenger = self._start(model)
        try:
            state = await challenger.settled()
        except asyncio.CancelledError:
            await challenger.stop()
            raise
        if state != "ready":
            reason, later = challenger.reason, ""
            await challenger.stop()
            if state == "unfit":
                self._unfit = model.version
            else:
                # Killed for want of memory, perhaps: it is tried again, more and more seldom.
                pause = min(_FIRST_PAUSE * 2**self._deaths, _LONGEST_PAUSE)
                self._deaths, self._not_before = self._deaths + 1, time.monotonic() + pause
                reason = challenger.away or "its process died before it was ready"
                later = f"; tried again in {pause:g} s"
            self._refuse(model.version or 0, reason, later)
            return
        before, self.current = self.current, challenger
        self._taken(before)
        task = asyncio.create_task(drain(before, self._drain_seconds))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    def _taken(self, before: WorkerProcess) -> None:
        self.refused, self._deaths, self._not_before = None, 0, 0.0
        self._metrics.swaps.labels("done").inc()
        LOG.info("%s answers in place of %s", self.model.address, before.model.address)

    def _refuse(self, version: int, reason: str, later: str = "") -> None:
        if reason not in self._told:
            self._told.add(reason)
            self._tell(Notice("refused", version, reason))
        shown = reason + later
        if self.refused == (version, shown):
            return
        self.refused = version, shown
        self._metrics.swaps.labels("refused").inc()
        LOG.error("version %s is refused, %s stays: %s", version, self.model.address, shown)


async def drain(worker: WorkerProcess, seconds: float) -> None:
    """End a process once it has answered what it was asked, or its time is over.

    Args:
        worker: The process.
        seconds: How long it may still answer.
    """
    end = time.monotonic() + seconds
    try:
        while worker.in_flight and time.monotonic() < end:
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
    finally:
        await worker.stop()
