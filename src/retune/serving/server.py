"""What the routes share: the model that answers, and what a client may ask for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from fastapi import Request

from retune.registry.versions.finding import CHALLENGER
from retune.serving.challenger import AskOf, Challenger, Trial
from retune.serving.deployment import Deployment
from retune.serving.finding import ModelSource
from retune.serving.keys import ApiKeys
from retune.serving.memory_room import Swap
from retune.serving.messages import (
    Answering,
    Ask,
    Classified,
    Delta,
    EngineSettings,
    Finished,
    Refused,
    ServedModel,
    Told,
    Tried,
)
from retune.serving.metrics import Metrics
from retune.serving.notices import Notice, Notices
from retune.serving.orders import Order
from retune.serving.rates import Rate, SetAside, most_tokens
from retune.serving.refusals import Refusal, client_gone, engine_away, not_ready, too_busy
from retune.serving.request_log import RequestLog
from retune.serving.several import Found, FurtherModels
from retune.serving.validating import Database, QueryValidator
from retune.serving.worker_process import WorkerProcess
from retune.sql.showing import Tables

LOG = logging.getLogger("retune.serving")
_GRACE_SECONDS = 5.0
"""For telling a client that its time is over, and the registry what became of a version."""

_Arrived = asyncio.Queue[Answering | Exception | None]


@dataclass(frozen=True)
class Limits:
    """What a client may ask for.

    Attributes:
        body_bytes: Longest body.
        queue: Most requests that are answered or wait at a time; more get 429.
        output_tokens: Most tokens of one answer.
        seconds: Longest time for an answer.
    """

    body_bytes: int = 1 << 20
    queue: int = 256
    output_tokens: int = 4096
    seconds: float = 300.0

    @property
    def held_seconds(self) -> float:
        """Seconds after which nothing of a request is held, whether or not its client reads."""
        return self.seconds + _GRACE_SECONDS


class Server:
    """What the routes share.

    Args:
        source: The name that is served.
        first: The model that it points to.
        engine: How answers are computed.
        limits: What clients may ask for.
        keys: Who is let in.
        poll_seconds: How often the alias is looked at.
        log: Keeps what is asked; None keeps nothing.
        hosts: Names that it is asked by where there are no keys; None for any.
        databases: What clients may have queries tried on, by name.
        rate: What a key may ask for that has no limits of its own.
        trial: How much the challenger is asked; None where none is served.
        tell: Writes down which version does not answer here, and why; None writes nothing.
        swap: Whether a new champion is loaded beside the old one.
        further: Models beside it, asked by their names.
    """

    def __init__(
        self,
        source: ModelSource,
        first: ServedModel,
        engine: EngineSettings,
        limits: Limits,
        keys: ApiKeys,
        poll_seconds: float,
        log: RequestLog | None = None,
        hosts: Collection[str] | None = None,
        databases: Mapping[str, Database] | None = None,
        rate: Rate = Rate(),  # noqa: B008 - frozen
        trial: Trial | None = None,
        tell: Callable[[Notice], None] | None = None,
        swap: Swap = "auto",
        further: Sequence[Found] = (),
    ) -> None:
        self._source, self._first, self._engine = source, first, engine
        self.limits, self.keys, self._poll_seconds = limits, keys, poll_seconds
        self.log, self.hosts, self.rates = log, hosts, keys.rates(rate)
        self.validator = QueryValidator(databases or {})
        self.metrics = Metrics()
        self.created = int(time.time())
        self._held = 0
        self._trial, self._tell, self._swap = trial, tell, swap
        self._notices: list[Notices] = []
        self._deployment: Deployment | None = None
        self.challenger: Challenger | None = None
        self._found, self.further = further, FurtherModels((), self._hold_further)

    async def start(self) -> None:
        """Start the process of the model; it is loaded while the server answers already."""
        self._notices = [Notices(self._tell)]
        self._deployment = self._hold(self._source, self._first, self._notices[0])
        self.further = FurtherModels(self._found, self._hold_further)
        if self._trial is not None:
            self.challenger = Challenger(
                self._source.beside(CHALLENGER),
                lambda: self.deployment.model.version,
                self._engine,
                self.metrics,
                self._notices[0].tell,
                self._trial,
                self._poll_seconds,
                drain_seconds=self.limits.held_seconds,
            )

    def _hold_further(self, found: Found) -> Deployment:
        self._notices.append(Notices(found.tell))
        return self._hold(found.source, found.model, self._notices[-1])

    def _hold(self, source: ModelSource, model: ServedModel, notices: Notices) -> Deployment:
        return Deployment(
            source,
            model,
            self._engine,
            self.metrics,
            notices.tell,
            self._swap,
            self._poll_seconds,
            drain_seconds=self.limits.held_seconds,
        )

    async def stop(self) -> None:
        """End all processes."""
        await self.further.stop()
        if self.challenger is not None:
            await self.challenger.stop()
        if self._deployment is not None:
            await self._deployment.stop()
        for notices in self._notices:
            await notices.close(_GRACE_SECONDS)
        await asyncio.to_thread(self.validator.close)

    @property
    def deployment(self) -> Deployment:
        """What answers."""
        assert self._deployment is not None
        return self._deployment

    @property
    def models(self) -> list[str]:
        """Names that clients can ask for now, the first model's first."""
        name = self.deployment.model.name
        beside = self.challenger is not None and self.challenger.ready is not None
        return [name, *([_challenger_of(name)] if beside else []), *self.further.names]

    def order(self, model: str | None, request: str, ask_of: AskOf) -> Order:
        """Return who answers a request, and what they are asked.

        Args:
            model: Name in the request; None where a route has but one model.
            request: Id of the request.
            ask_of: The order, as a version is asked.

        Raises:
            Refusal: It is not served here, or no model can answer now.
        """
        other = self.further.find(model)
        if other is not None:
            return Order(ask_of, _ready(other))
        current = self.deployment.current
        served = current.model
        challenger = self.challenger
        if model == _challenger_of(served.name) and challenger is not None:
            if challenger.ready is None:
                raise not_ready("no challenger is there, or it is not proved yet")
            return Order(ask_of, challenger.ready)
        known = (served.name, served.address, self._source.text)
        if model is not None and model not in known:
            raise Refusal(
                404,
                f"the model {model!r:.80} is not served here; known are "
                + ", ".join(map(repr, self.models)),
                "model_not_found",
                param="model",
            )
        asked = challenger is not None and challenger.trial.answers(request)
        timed = challenger.time if challenger is not None else None
        return Order(ask_of, _ready(current), challenger if asked else None, timed)

    def check_limits(self, ask: Ask, name: str = "max_tokens") -> None:
        """Refuse an order for more than one may ask for.

        Args:
            ask: The order.
            name: Of the field that bounds its answer.
        """
        most = self.limits.output_tokens
        if (ask.max_tokens or 0) > most:
            raise Refusal(
                400,
                f"{name} is {ask.max_tokens}; this server writes {most} at most",
                "invalid_value",
                param=name,
            )

    async def reports(
        self, order: Order, request: Request, tables: Tables | None = None
    ) -> AsyncGenerator[Told, None]:
        """Yield what comes of an order, in time and while the client is there.

        Args:
            order: The order, and who answers it.
            request: Of the client.
            tables: What the answers are tried on as queries; None where they are not.

        Raises:
            Refusal: There is no place for it, the model refuses it, its process dies, it takes too
                long, or nobody waits for it any more.
        """
        ask = order.ask
        self.check_limits(ask)
        if self._held >= self.limits.queue:
            raise too_busy(self.limits.queue)
        aside = self._set_tokens_aside(ask, request)
        self._held += 1
        arrived: _Arrived = asyncio.Queue()
        # A task of its own: whoever reads may be cancelled, and once more while it cleans up.
        writing = asyncio.create_task(_pass_on(order.answer(), arrived))
        gone = asyncio.create_task(_wait_until_gone(request))
        gone.add_done_callback(lambda _: arrived.put_nowait(client_gone()))
        texts, label, used = [""] * ask.n, None, 0
        end = time.monotonic() + self.limits.seconds
        try:
            # No `asyncio.timeout`: a stream begins in one task and goes on in another.
            while (report := await self._next(arrived, end)) is not None:
                if isinstance(report, Refused):
                    raise _refusal_of(report)
                used += self._count(report)
                if isinstance(report, Classified):
                    label = next(iter(report.probabilities))
                else:
                    texts[report.choice] += report.text
                yield report
            aside.settle(used)
            await self._keep(order, None if ask.classify else texts[0], label)
            self._shadow(order, texts[0] if label is None else label)
            if tables is not None:
                left = end - time.monotonic()
                for choice, shown in enumerate(await self.validator.check(texts, tables, left)):
                    yield Tried(choice=choice, shown=shown)
        except Refusal as refusal:
            # What is broken off by its client, or takes too long, counts as all that it might
            # have taken: how much was computed is not known.
            if refusal.code not in ("client_gone", "timeout"):
                aside.settle(used)
            if refusal.code == "timeout":
                order.late()
            raise
        finally:
            gone.cancel()
            writing.cancel()
            self._held -= 1
            await asyncio.wait([writing])

    def _set_tokens_aside(self, ask: Ask, request: Request) -> SetAside:
        tokens = most_tokens(ask, self._engine.default_tokens)
        try:
            return self.rates.set_tokens_aside(request.state.holder, tokens)
        except Refusal:
            self.metrics.limited.labels("tokens").inc()
            raise

    async def _keep(self, order: Order, answer: str | None, label: str | None) -> None:
        if self.log is None:
            return
        try:
            await asyncio.to_thread(self.log.write, order.ask, order.model, answer, label)
        except OSError as error:
            # A full disk takes the log, and not the answer that is written already.
            LOG.error("%s is not kept (--log-requests): %s", order.ask.id, error)
            self.metrics.unkept.inc()

    def _shadow(self, order: Order, shown: str) -> None:
        """Ask the challenger too, where the champion has answered and it is its turn."""
        champion, challenger, log = order.model, self.challenger, self.log
        if challenger is None or not challenger.trial.shadows(order.ask.id):
            return
        if order.worker is challenger.worker:
            return

        def told(model: ServedModel, answer: str) -> None:
            if log is not None:
                log.pair(order.ask, {champion.address: shown, model.address: answer})

        challenger.shadow(order.ask_of, shown, told)

    async def _next(self, arrived: _Arrived, end: float) -> Answering | None:
        """Return the next report; None after the last one."""
        try:
            left = max(0.0, end - time.monotonic())
            report = await asyncio.wait_for(arrived.get(), left)
        except TimeoutError:
            why = f"no answer within {self.limits.seconds:g} s"
            raise Refusal(504, why, "timeout") from None
        if isinstance(report, Exception):
            raise report
        return report

    def _count(self, report: Delta | Finished | Classified) -> int:
        """Count the tokens that a report tells of, and return how many; a prompt counts once."""
        if isinstance(report, Delta):
            return 0
        written = 0
        if isinstance(report, Finished):
            written = report.tokens
            self.metrics.tokens.labels("written").inc(written)
            if report.first_token_seconds is not None:
                self.metrics.first_token_seconds.observe(report.first_token_seconds)
            if report.choice:
                return written
        self.metrics.tokens.labels("prompt").inc(report.prompt_tokens)
        return written + report.prompt_tokens

    def gauge(self) -> None:
        """Set the gauges to what holds now."""
        current = self.deployment.current
        workers = [current, *self.further]
        self.metrics.in_flight.set(self._held)
        self.metrics.running.set(sum(each.busy.running for each in workers))
        self.metrics.waiting.set(sum(each.busy.waiting for each in workers))
        self.metrics.ready.set(all(each.state == "ready" for each in workers))
        self.metrics.version.set(current.model.version or 0)


def _ready(worker: WorkerProcess) -> WorkerProcess:
    if worker.state != "ready":
        raise not_ready(worker.reason)
    return worker


def _challenger_of(name: str) -> str:
    return f"{name}@{CHALLENGER}"


def _refusal_of(report: Refused) -> Refusal:
    if report.fault == "engine":
        return engine_away(report.message)
    status = 400 if report.fault == "client" else 500
    return Refusal(status, report.message, report.code or "invalid_value", param=report.param)


async def _pass_on(answer: AsyncGenerator[Answering, None], arrived: _Arrived) -> None:
    """Put what comes of an order into a queue: at last None, or why there is no more."""
    try:
        async with aclosing(answer):
            async for report in answer:
                arrived.put_nowait(report)
        arrived.put_nowait(None)
    except Exception as error:  # noqa: BLE001 - raised where it is read
        arrived.put_nowait(error)


async def _wait_until_gone(request: Request) -> None:
    """Return once the client has closed its connection; its body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
