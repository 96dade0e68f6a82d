"""The server's side of the process that computes: started, watched, started again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Literal

from retune.records import Record
from retune.serving.messages import (
    REPORTS,
    Answering,
    Ask,
    Away,
    Busy,
    Cancel,
    EngineSettings,
    Load,
    Measure,
    Measured,
    Ready,
    ServedModel,
    Unfit,
)
from retune.serving.refusals import engine_away, lost, not_ready

LOG = logging.getLogger("retune.serving")
State = Literal["loading", "ready", "draining", "unfit", "restarting", "stopped"]
_LINE_BYTES = 1 << 26
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_STOP_SECONDS = 5.0
_MEASURE_SECONDS = 10.0


class WorkerProcess:
    """One model in a process of its own.

    Args:
        model: What it holds.
        settings: How it answers.
        restarted: Told whenever it died and is started again.
    """

    def __init__(
        self, model: ServedModel, settings: EngineSettings, restarted: Callable[[], None]
    ) -> None:
        self.model = model
        self.state: State = "loading"
        self.reason = "the model is being loaded and proved"
        self.away = ""
        """Why the engine elsewhere cannot be asked; empty while it can, or where there is none."""
        self.ready: Ready | None = None
        self.busy = Busy(running=0, waiting=0)
        self._settings, self._restarted = settings, restarted
        self._process: asyncio.subprocess.Process | None = None
        self._answers: dict[str, asyncio.Queue[Answering | None]] = {}
        self._settled = asyncio.Event()
        self._measured: asyncio.Future[Measured] | None = None
        self._task = asyncio.create_task(self._keep_alive())

    @property
    def in_flight(self) -> int:
        """Requests that it answers or that wait in it."""
        return len(self._answers)

    @property
    def pid(self) -> int | None:
        """Its process id; None while there is none."""
        return self._process.pid if self._process else None

    async def settled(self) -> State:
        """Wait until it is known whether the model is fit."""
        await self._settled.wait()
        return self.state

    async def answer(self, ask: Ask) -> AsyncGenerator[Answering, None]:
        """Send an order, and yield what comes of it; leaving the iteration cancels the order.

        Args:
            ask: The order; its id is unique.

        Raises:
            Refusal: The model is not there, or its process dies.
        """
        if self.state != "ready":
            raise not_ready(self.reason)
        reports: asyncio.Queue[Answering | None] = asyncio.Queue()
        self._answers[ask.id] = reports
        left = 1 if ask.classify else ask.n
        try:
            try:
                await self._send(ask)
            except ConnectionError:
                raise lost() from None
            while left:
                report = await reports.get()
                if report is None:
                    raise engine_away(self.away) if self.away else lost()
                left -= report.kind in ("finished", "classified")
                left = 0 if report.kind == "refused" else left
                yield report
        finally:
            del self._answers[ask.id]
            if left and self.state in ("ready", "draining"):
                # Not waited for, since whoever leaves may be cancelled; a process that has died
                # in the meantime computes nothing.
                self._write(Cancel(id=ask.id))

    def close(self, reason: str) -> None:
        """Take no more requests; those that it has are answered.

        Args:
            reason: What others are told.
        """
        self.state, self.reason = "draining", reason

    async def measure(self) -> Measured | None:
        """Ask what memory the process holds, and what is left; None where it does not say."""
        if self.state != "ready":
            return None
        self._measured = asyncio.get_running_loop().create_future()
        try:
            await self._send(Measure())
            return await asyncio.wait_for(self._measured, _MEASURE_SECONDS)
        except (ConnectionError, TimeoutError):
            return None

    async def stop(self) -> None:
        """End the process and what watches it."""
        self.state, self.reason = "stopped", "the model was taken out of service"
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._end()
        self._lose_all()

    async def _send(self, order: Record) -> None:
        await self._write(order).drain()

    def _write(self, order: Record) -> asyncio.StreamWriter:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(order.model_dump_json().encode() + b"\n")
        return self._process.stdin

    async def _keep_alive(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            cause = ""
            try:
                await self._run_once()
            except Exception as error:  # noqa: BLE001 - or nobody would start it again
                # Its name alone: what a report holds may stand in the text of the others.
                cause = (isinstance(error, OSError) and error.strerror) or type(error).__name__
            self._lose_all()
            if self.state == "unfit":
                return
            code = self._process.returncode if self._process else None
            was_ready, self.ready, self.state = self.ready is not None, None, "restarting"
            self.reason = self.away or (
                f"its process died ({cause or f'exit code {code}'}) and is being started again"
            )
            LOG.error("%s: %s", self.model.address, self.reason)
            self._settled.set()
            self._restarted()
            pause = _FIRST_PAUSE if was_ready else min(2 * pause, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _run_once(self) -> None:
        """Start the process, and read its reports to their end."""
        self._process, self.away = None, ""
        read_end, write_end = os.pipe()
        reading = os.fdopen(read_end, "rb")
        transport: asyncio.ReadTransport | None = None
        reader = asyncio.StreamReader(limit=_LINE_BYTES)
        try:
            try:
                transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                    lambda: asyncio.StreamReaderProtocol(reader), reading
                )
                self._process = await asyncio.create_subprocess_exec(
                    # -P: no module of the folder that a user happens to stand in.
                    *(sys.executable, "-P", "-m", "retune.serving.worker"),
                    *(str(write_end), str(os.getpid())),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=(write_end,),
                    env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
                )
            finally:
                os.close(write_end)
            with suppress(ConnectionError):
                await self._send(Load(model=self.model, settings=self._settings))
            async for line in reader:
                self._read(line)
            await self._process.wait()
        finally:
            if transport is None:
                reading.close()
            else:
                transport.close()
            await self._end()

    def _read(self, line: bytes) -> None:
        report = REPORTS.validate_json(line)
        if isinstance(report, Ready):
            self.ready, self.state, self.reason, self.away = report, "ready", "", ""
            self._settled.set()
        elif isinstance(report, Unfit):
            self.state, self.reason = "unfit", report.reason
            LOG.error("%s cannot be served: %s", self.model.address, report.detail)
            self._settled.set()
        elif isinstance(report, Away):
            self.state, self.reason, self.away = "restarting", report.reason, report.reason
            LOG.error("%s waits for its engine: %s", self.model.address, report.reason)
            self._settled.set()
        elif isinstance(report, Busy):
            self.busy = report
        elif isinstance(report, Measured):
            if self._measured is not None and not self._measured.done():
                self._measured.set_result(report)
        elif report.id in self._answers:
            self._answers[report.id].put_nowait(report)

    def _lose_all(self) -> None:
        self.busy = Busy(running=0, waiting=0)
        for reports in self._answers.values():
            reports.put_nowait(None)

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        # Its input ends, and with it the process; a step that hangs is not waited for.
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
