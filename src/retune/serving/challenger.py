"""The challenger beside the champion: asked by its name, by a share of requests, or in the shadow.

It is found by its alias, loaded and proved like a champion, and held in a process of its own. One
that fails its proof is not asked, and one that errs too often, or is much slower, is asked no more:
its share goes back to the champion by itself, until the alias names another version.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from retune.errors import RetuneError, ServiceError
from retune.registry.records import ServedKind
from retune.serving.deployment import drain
from retune.serving.finding import ModelSource
from retune.serving.messages import Ask, EngineSettings, Refused, ServedModel
from retune.serving.metrics import Metrics
from retune.serving.notices import Notice
from retune.serving.pace import Pace
from retune.serving.refusals import Refusal
from retune.serving.worker_process import WorkerProcess

LOG = logging.getLogger("retune.serving")
_REMEMBERED, MOST_FAILURES = 50, 3
"""So many failures among so many of its last answers, and it is asked no more."""
MOST_SHADOWS = 4
"""Answered at a time; a challenger that is slower than its champion would pile them up."""
_DIGITS = 8

Shadowed = Literal["same", "other", "failed", "skipped"]
AskOf = Callable[[ServedModel], Ask]


@dataclass(frozen=True)
class Trial:
    """How much a challenger is asked.

    Attributes:
        canary: Part of the requests that it answers, from 0 to 1.
        shadow: Part of those that the champion answered and it is asked too, from 0 to 1.
        most_slowdown: How many times as long as the champion's its median answer may take.
    """

    canary: float = 0.0
    shadow: float = 0.0
    most_slowdown: float = 2.0

    def answers(self, request: str) -> bool:
        """Tell whether the challenger answers a request: by its id, whose digits are of chance.

        Not by the digits that tell whether it is kept, or all or none of these were.
        """
        return _part(request[-_DIGITS:]) < self.canary

    def shadows(self, request: str) -> bool:
        """Tell whether the challenger is asked what the champion answered."""
        return _part(request[-2 * _DIGITS : -_DIGITS]) < self.shadow


def _part(digits: str) -> float:
    return int(digits, 16) / float(16**_DIGITS)


class Challenger:
    """The version that the alias `challenger` names, where that is not the champion itself.

    Args:
        source: The alias.
        champion: Tells the version that is champion now.
        settings: How answers are computed.
        metrics: Told of what becomes of it.
        tell: Told of each version that is asked no more, and why.
        trial: How much it is asked.
        poll_seconds: How often the alias is looked at.
        drain_seconds: How long a process that is taken out may answer what it was asked.
    """

    def __init__(
        self,
        source: ModelSource,
        champion: Callable[[], int | None],
        settings: EngineSettings,
        metrics: Metrics,
        tell: Callable[[Notice], None],
        trial: Trial,
        poll_seconds: float,
        *,
        drain_seconds: float,
    ) -> None:
        self._source, self._champion, self._settings = source, champion, settings
        self._metrics, self._tell, self.trial = metrics, tell, trial
        self._poll_seconds, self._drain_seconds = poll_seconds, drain_seconds
        self.worker: WorkerProcess | None = None
        self.set_aside: tuple[int, str] | None = None
        """The version that the alias names and that is asked no more, and why."""
        self._last: deque[bool] = deque(maxlen=_REMEMBERED)
        self._pace, self._paced = Pace(trial.most_slowdown), champion()
        self._tasks: set[asyncio.Task[None]] = set()
        self._shadows = Counter[str]()
        self._poll = asyncio.create_task(self._follow())

    @property
    def ready(self) -> WorkerProcess | None:
        """The process that can be asked; None while there is none."""
        return self.worker if self.worker is not None and self.worker.state == "ready" else None

    async def stop(self) -> None:
        """End all processes."""
        tasks = [*self._tasks, self._poll]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.worker is not None:
            await self.worker.stop()

    async def _follow(self) -> None:
        told = ""
        while True:
            try:
                await self.look()
                told = ""
            except Exception as error:  # noqa: BLE001 - or the alias would be followed no more
                why = f"{type(error).__name__}: {error}"
                if why != told:
                    LOG.warning("the challenger cannot be followed: %s", why)
                told = why
            await asyncio.sleep(self._poll_seconds)

    async def look(self) -> None:
        """Look which version is challenger, and load and prove another one.

        Raises:
            ServiceError: MLflow does not answer.
        """
        target = await asyncio.to_thread(self._source.target)
        if self.set_aside is not None and target != self.set_aside[0]:
            self.set_aside = None
        wanted = None if target == self._champion() or self.set_aside is not None else target
        if self.worker is not None and self.worker.model.version != wanted:
            self._retire()
        if self._paced != self._champion():
            self._paced = self._champion()
            self._pace.clear()
        if self.worker is None and wanted is not None:
            await self._begin(wanted)

    async def _begin(self, version: int) -> None:
        try:
            model = await asyncio.to_thread(self._source.find)
        except ServiceError:
            raise
        except RetuneError as error:
            self._put_aside(version, error.message, "refused")
            return
        if model.version != version:
            return  # The alias has moved meanwhile: the next look sees where to.
        self._last.clear()
        self._pace.clear()
        self.worker = self._start(model)
        LOG.info("the challenger %s is loaded and proved", model.address)
        worker = self.worker
        state = await worker.settled()
        # One that waits for its engine is let in as soon as that has it.
        if state != "ready" and not worker.away and self.worker is worker:
            self._put_aside(version, worker.reason, "refused")

    def _start(self, model: ServedModel) -> WorkerProcess:
        return WorkerProcess(model, self._settings, self._died)

    def _died(self) -> None:
        self._metrics.restarts.inc()
        self.note(failed=True)

    def note(self, *, failed: bool) -> None:
        """Remember what became of an answer of its; too many failures, and it is asked no more."""
        self._last.append(failed)
        failures = sum(self._last)
        if self.worker is not None and failures >= MOST_FAILURES:
            version = self.worker.model.version
            self._put_aside(
                version or 0, f"{failures} of its last {len(self._last)} answers failed"
            )

    def time(self, worker: WorkerProcess, seconds: float) -> None:
        """Remember how long an answer took; a challenger that is shown to be slow is asked no more.

        Args:
            worker: Who answered.
            seconds: From the order to the end of the answer.
        """
        if self.worker is None:
            return
        self._pace.add(seconds, challenger=worker is self.worker)
        fault = self._pace.find_fault()
        if fault:
            self._put_aside(self.worker.model.version or 0, fault)

    def _put_aside(self, version: int, reason: str, kind: ServedKind = "let_go") -> None:
        self.set_aside = version, reason
        self._metrics.returns.inc()
        self._tell(Notice(kind, version, reason))
        LOG.error("version %s is no longer asked, the champion answers: %s", version, reason)
        self._retire()

    def _retire(self) -> None:
        worker, self.worker = self.worker, None
        if worker is not None:
            self._keep(asyncio.create_task(drain(worker, self._drain_seconds)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def shadow(self, ask_of: AskOf, shown: str, told: Callable[[ServedModel, str], None]) -> None:
        """Ask what the champion answered, without anybody waiting for it.

        Args:
            ask_of: The order, as a version is asked.
            shown: What the champion answered first, a text or a class.
            told: Given who answered, and what, where it answered.
        """
        worker = self.ready
        if worker is None:
            return
        if self._shadows["running"] >= MOST_SHADOWS:
            self._metrics.shadows.labels("skipped").inc()
            return
        self._shadows["running"] += 1
        ask = ask_of(worker.model).model_copy(update={"stream": False, "n": 1})
        self._keep(asyncio.create_task(self._shadow(worker, ask, shown, told)))

    async def _shadow(
        self,
        worker: WorkerProcess,
        ask: Ask,
        shown: str,
        told: Callable[[ServedModel, str], None],
    ) -> None:
        outcome: Shadowed = "failed"
        begun = time.monotonic()
        try:
            answer = await asyncio.wait_for(_read(worker, ask), self._drain_seconds)
            self.time(worker, time.monotonic() - begun)
            outcome = "same" if answer == shown else "other"
            await asyncio.to_thread(told, worker.model, answer)
        except (Refusal, TimeoutError, OSError) as error:
            LOG.info("%s has no answer in the shadow: %s", ask.id, error)
        finally:
            self._shadows["running"] -= 1
            self._metrics.shadows.labels(outcome).inc()
            self.note(failed=outcome == "failed")


async def _read(worker: WorkerProcess, ask: Ask) -> str:
    text = ""
    async with aclosing(worker.answer(ask)) as answer:
        async for report in answer:
            if isinstance(report, Refused):
                raise _as_refusal(report)
            if report.kind == "classified":
                return next(iter(report.probabilities))
            text += report.text
    return text


def _as_refusal(report: Refused) -> Refusal:
    return Refusal(400 if report.fault == "client" else 500, report.message, "refused")
