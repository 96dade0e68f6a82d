"""One request, and who answers it: the challenger in its share, or else the champion."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from retune.serving.challenger import AskOf, Challenger
from retune.serving.messages import Answering, Refused, ServedModel
from retune.serving.refusals import Refusal
from retune.serving.worker_process import WorkerProcess


class Order:
    """One request, and who answers it: the challenger in its share, or else the champion.

    Args:
        ask_of: The order, as a version is asked.
        champion: Who answers.
        challenger: Who is asked first; None where the champion is.
        timed: Told who answered, and how long it took.
    """

    def __init__(
        self,
        ask_of: AskOf,
        champion: WorkerProcess,
        challenger: Challenger | None = None,
        timed: Callable[[WorkerProcess, float], None] | None = None,
    ) -> None:
        self.ask_of, self._timed = ask_of, timed
        self._champion, self._challenger = champion, challenger
        first = challenger.ready if challenger is not None else None
        self.worker = first or champion
        self.ask = ask_of(self.worker.model)

    @property
    def model(self) -> ServedModel:
        """Who answers, as far as is known now."""
        return self.worker.model

    def late(self) -> None:
        """Remember that it took longer than one waits, which only who waits can tell."""
        if self._challenger is not None and self.worker is not self._champion:
            self._challenger.note(failed=True)

    async def answer(self) -> AsyncGenerator[Answering, None]:
        """Yield what comes of it.

        A challenger that fails before its first word costs nobody an answer: the champion is asked.

        Raises:
            Refusal: Who answers is not there, or dies.
        """
        if self._challenger is None or self.worker is self._champion:
            async with aclosing(self._ask()) as answer:
                async for report in answer:
                    yield report
            return
        begun = False
        try:
            async with aclosing(self._ask()) as answer:
                async for report in answer:
                    if isinstance(report, Refused) and report.fault == "server":
                        raise Refusal(500, report.message, report.code or "server_fault")
                    begun = True
                    yield report
            self._challenger.note(failed=False)
        except Refusal:
            self._challenger.note(failed=True)
            if begun:
                raise
            self.worker = self._champion
            self.ask = self.ask_of(self.worker.model)
            async with aclosing(self._ask()) as answer:
                async for report in answer:
                    yield report

    async def _ask(self) -> AsyncGenerator[Answering, None]:
        """Let who it is ask, and time what was answered whole."""
        begun, last = time.monotonic(), ""
        async with aclosing(self.worker.answer(self.ask)) as answer:
            async for report in answer:
                last = report.kind
                yield report
        if self._timed is not None and last in ("finished", "classified"):
            self._timed(self.worker, time.monotonic() - begun)
