"""The process that holds the model: loads it, proves it, and answers orders until its parent ends.

Orders come on its standard input and reports go out on a pipe of their own, one JSON object a line
(`messages`). Whatever libraries print goes to its standard error. A crash in here, or a kill for
want of memory, ends no server.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Literal

from retune.data.chats.faults import ChatFault
from retune.data.chats.rendering import ChatRenderer
from retune.data.chats.thoughts import find_open_thought
from retune.data.chats.tokenizing import tokenize
from retune.errors import ConfigError, RetuneError
from retune.inference.head_predictions import class_figures
from retune.inference.jobs import Engine, Job
from retune.inference.label_likelihood import predict_by_likelihood
from retune.inference.loaded_models import LoadedModel
from retune.inference.remote_engine import EngineAway, RemoteEngine
from retune.records import Record
from retune.serving.answers import AnswerWriter
from retune.serving.holding import hold_model
from retune.serving.memory_room import measure_memory
from retune.serving.messages import (
    ORDERS,
    Ask,
    Away,
    Busy,
    Cancel,
    Classified,
    EngineSettings,
    Load,
    Measure,
    Measured,
    Ready,
    Refused,
    ServedModel,
    Unfit,
)
from retune.serving.proof import (
    Proved,
    Unproved,
    prove_answers,
    prove_classes,
    prove_prompts,
)
from retune.spine.children import die_with

_BUSY_SECONDS = 0.5
_HEAD_BATCH = 16
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds until an engine elsewhere is asked again."""
ENGINE_DIED = 70
"""Exit code of a process whose engine ended unasked: nothing would be answered any more."""


class Reports:
    """Writes to the parent, from any thread."""

    def __init__(self, file: IO[str]) -> None:
        self._file, self._lock = file, threading.Lock()

    def send(self, report: Record) -> None:
        """Write one report."""
        with self._lock:
            self._file.write(report.model_dump_json() + "\n")
            self._file.flush()


class Answerer:
    """Answers orders with one model.

    Args:
        served: What the model is.
        settings: How answers are computed.
        reports: To the parent.

    Raises:
        RetuneError: It cannot be loaded.
        Unproved: It is not what was registered.
        EngineAway: The engine elsewhere cannot be asked, or answers otherwise.
    """

    def __init__(self, served: ServedModel, settings: EngineSettings, reports: Reports) -> None:
        self._held = hold_model(served, settings)
        self._settings, self._reports = settings, reports
        self.context = self._held.context
        self.engine, self.engine_name = self._held.engine, self._held.engine_name
        self._renderers: dict[str | None, ChatRenderer] = {}
        self._jobs: dict[str, list[Job]] = {}
        self._asked: queue.SimpleQueue[Ask] = queue.SimpleQueue()
        if self._held.loaded is not None and self.engine is None:
            head = self._held.loaded
            threading.Thread(
                target=self._classify_all, args=(head,), name="head", daemon=True
            ).start()
        try:
            self.proved = self._prove(served)
        except BaseException:
            if isinstance(self.engine, RemoteEngine):
                self.engine.close()
            raise

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Classes of a model with a head."""
        return self._held.labels

    def measure(self) -> Measured:
        """Say what memory the model holds; with an engine elsewhere a second one takes none."""
        if self._held.loaded is None:
            return Measured(held=0, free=0)
        return measure_memory(self._held.loaded.model.device.type)

    def _prove(self, served: ServedModel) -> Proved:
        if served.answers is None:
            return Proved(0, 0)
        chats = prove_prompts(self._held, served.answers)
        if self.engine is None:
            assert self._held.loaded is not None
            return Proved(chats, prove_classes(self._held.loaded, served.answers))
        try:
            return Proved(chats, prove_answers(self.engine, self._held, served.answers))
        except Unproved as error:
            if isinstance(self.engine, RemoteEngine):
                # Whoever runs it may give it the right weights, and it is asked again.
                raise EngineAway(self.engine.away or error.what, str(error)) from error
            raise

    def ask(self, ask: Ask) -> None:
        """Begin to answer a request, or refuse it."""
        try:
            self._ask(ask)
        except ChatFault as fault:
            where = "prompt" if ask.messages is None else "messages"
            self._refuse(ask, str(fault), where, f"invalid_{where}")
        except ConfigError:
            why = "the model's chat template knows no reasoning_effort, so it would change nothing"
            self._refuse(ask, why, "reasoning_effort", "unsupported_value")
        except Exception as error:  # noqa: BLE001 - one request fails, and not all that are computed
            # Where, and not the error's text, which may repeat what was asked.
            where = "".join(traceback.format_tb(error.__traceback__))
            sys.stderr.write(f"{ask.id}: {type(error).__name__}\n{where}")
            self._failed(ask, f"{type(error).__name__}: {error!s:.200}")

    def _ask(self, ask: Ask) -> None:
        if ask.classify != (self.engine is None):
            what = (
                "writes and has no head: ask /v1/chat/completions"
                if ask.classify
                else "has a head and names classes: ask /classify"
            )
            self._refuse(ask, f"this model {what}", "model", "unsupported_model")
            return
        ids, thinks = self._read_prompt(ask)
        param = "prompt" if ask.messages is None else "messages"
        room = self.context - len(ids)
        wanted = 0 if ask.classify else ask.max_tokens or 1
        if not ids:
            why = "there is nothing to continue: it has no tokens"
            self._refuse(ask, why, param, "empty_prompt")
        elif room < wanted:
            self._refuse(
                ask,
                f"the prompt has {len(ids)} tokens and max_tokens is {wanted}: together over the "
                f"{self.context} tokens that this model is served with. Nothing is cut silently.",
                param,
                "context_length_exceeded",
            )
        elif ask.classify:
            self._asked.put(ask.model_copy(update={"prompt_ids": tuple(ids)}))
        else:
            self._write(
                ask, ids, ask.max_tokens or min(room, self._settings.default_tokens), thinks
            )

    def _read_prompt(self, ask: Ask) -> tuple[list[int], bool]:
        """Return the token ids of a prompt, and whether it ends in an open thought."""
        if ask.prompt_ids is not None:
            known = len(self._held.tokenizer)
            wrong = next((each for each in ask.prompt_ids if not 0 <= each < known), None)
            if wrong is not None:
                raise ChatFault("malformed_chats", f"{wrong} is no token id; there are {known}")
            return list(ask.prompt_ids), False
        if ask.messages is None:
            [(ids, _)] = tokenize(self._held.tokenizer, [ask.prompt or ""])
            return ids, False
        effort = ask.reasoning_effort
        if effort not in self._renderers:
            self._renderers[effort] = ChatRenderer(self._held.tokenizer, effort=effort)
        text, ids = self._renderers[effort].render_request(ask.messages)
        return ids, find_open_thought(text) is not None

    def _write(self, ask: Ask, ids: list[int], max_tokens: int, thinks: bool) -> None:
        assert self.engine is not None
        jobs = [
            self._job(ask, choice, ids, max_tokens=max_tokens, thinks=thinks)
            for choice in range(ask.n)
        ]
        self._jobs[ask.id] = jobs
        for job in jobs:
            self.engine.submit(job)

    def _job(
        self, ask: Ask, choice: int, ids: Sequence[int], *, max_tokens: int, thinks: bool
    ) -> Job:
        writer = AnswerWriter(
            ask,
            choice,
            tokenizer=self._held.tokenizer,
            end_ids=self._held.end_ids,
            prompt_tokens=len(ids),
            max_tokens=max_tokens,
            thinks=thinks,
            tell=self._reports.send,
        )
        job = Job(
            f"{ask.id}/{choice}",
            ids,
            max_tokens,
            take=lambda chosen: self._taken(ask, job, writer.take(chosen)),
            fail=lambda reason: self._failed(ask, reason),
            temperature=ask.temperature,
            top_p=ask.top_p,
            seed=None if ask.seed is None else ask.seed + choice,
            top_logprobs=ask.top_logprobs,
        )
        return job

    def _taken(self, ask: Ask, job: Job, ended: bool) -> bool:
        if ended:
            job.ended = True
            if job.taken < job.max_tokens and self.engine is not None:
                # By a stop string, of which the engine knows nothing.
                self.engine.cancel(job)
            if all(each.ended for each in self._jobs.get(ask.id, ())):
                self._jobs.pop(ask.id, None)
        return ended

    def _failed(self, ask: Ask, reason: str) -> None:
        self.cancel(ask.id)
        if isinstance(self.engine, RemoteEngine) and self.engine.away:
            self._refuse(ask, reason, None, "engine_away", fault="engine")
        else:
            self._refuse(ask, reason, None, "engine_error", fault="server")

    def cancel(self, request: str) -> None:
        """Compute no more of a request."""
        for job in self._jobs.pop(request, ()):
            # One that failed has ended, and the engine may hold it nevertheless.
            if self.engine is not None:
                self.engine.cancel(job)

    def _classify_all(self, head: LoadedModel) -> None:
        while True:
            asks = [self._asked.get()]
            with suppress(queue.Empty):
                while len(asks) < _HEAD_BATCH:
                    asks.append(self._asked.get_nowait())
            try:
                self._classify(head, asks)
            except Exception as error:  # noqa: BLE001 - who waits is told, and the next go on
                for ask in asks:
                    self._refuse(ask, str(error)[:200], None, "engine_error", fault="server")

    def _classify(self, head: LoadedModel, asks: Sequence[Ask]) -> None:
        labels = head.labels or ()
        figures = class_figures(
            head.model,
            [ask.prompt_ids or () for ask in asks],
            batch_size=_HEAD_BATCH,
            pad_id=int(head.tokenizer.pad_token_id),
        )
        found = predict_by_likelihood(figures.reshape(-1, len(labels)), labels)
        for ask, row in zip(asks, found.probabilities, strict=True):
            named = sorted(zip(labels, row, strict=True), key=lambda each: -each[1])
            self._reports.send(
                Classified(
                    id=ask.id,
                    probabilities={label: float(value) for label, value in named},
                    prompt_tokens=len(ask.prompt_ids or ()),
                )
            )

    def _refuse(
        self,
        ask: Ask,
        message: str,
        param: str | None,
        code: str,
        *,
        fault: Literal["client", "server", "engine"] = "client",
    ) -> None:
        self._reports.send(Refused(id=ask.id, message=message, param=param, code=code, fault=fault))


def work(reports_handle: int, parent: int) -> None:
    """Load, prove, and answer until standard input ends.

    Args:
        reports_handle: File descriptor that reports are written to.
        parent: The server's process id: without it there is nobody to answer.
    """
    die_with(parent)
    # A terminal sends Ctrl-C to the server and to this process: the server says when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with (
        os.fdopen(reports_handle, "w", encoding="utf-8") as file,
        open(0, encoding="utf-8", closefd=False) as orders,
    ):
        reports = Reports(file)
        load = Load.model_validate_json(orders.readline())
        answerer = open_answerer(load, reports, orders)
        if answerer is None:
            return
        reports.send(
            Ready(
                engine=answerer.engine_name,
                context=answerer.context,
                labels=answerer.labels,
                renderings=answerer.proved.renderings,
                answers=answerer.proved.answers,
            )
        )
        if answerer.engine is not None:
            threading.Thread(target=tell_busy, args=(answerer.engine, reports), daemon=True).start()
        for line in orders:
            order = ORDERS.validate_json(line)
            if isinstance(order, Cancel):
                answerer.cancel(order.id)
            elif isinstance(order, Measure):
                reports.send(answerer.measure())
            else:
                answerer.ask(order)
    # Threads of the engine may be in the middle of a step that nobody waits for.
    os._exit(0)


def open_answerer(load: Load, reports: Reports, orders: IO[str]) -> Answerer | None:
    """Load a model and prove it; an engine elsewhere is asked until it answers as it has to.

    Args:
        load: What the model is.
        reports: Told why it does not answer.
        orders: Of the parent; their end ends the waiting too.

    Returns:
        What answers; None where nothing will.
    """
    pause, told = _FIRST_PAUSE, ""
    while True:
        try:
            return Answerer(load.model, load.settings, reports)
        except EngineAway as error:
            if error.reason != told:
                sys.stderr.write(f"{error.reason}: {error}\n")
                reports.send(Away(reason=error.reason))
            told = error.reason
        except Unproved as error:
            reports.send(Unfit(reason=error.what, detail=str(error)))
            return None
        except RetuneError as error:
            reports.send(Unfit(reason=error.message, detail=error.message))
            return None
        except Exception as error:  # noqa: BLE001 - it would fail again, and the reason be unknown
            traceback.print_exc()
            why = f"{type(error).__name__}: {error!s:.500}"
            reports.send(Unfit(reason=why, detail=why))
            return None
        # Nothing is ordered before the model is ready: what can be read is the end.
        if select.select([orders], [], [], pause)[0]:
            return None
        pause = min(2 * pause, _LONGEST_PAUSE)


def tell_busy(engine: Engine, reports: Reports) -> None:
    """Report how busy an engine is, and end the process when the engine has ended unasked."""
    before = None
    while True:
        if not engine.alive:
            if isinstance(engine, RemoteEngine):
                reports.send(Away(reason=engine.away))
            sys.stderr.write("the engine's thread has ended; the process ends, to be begun anew\n")
            sys.stderr.flush()
            os._exit(ENGINE_DIED)
        counts = engine.counts()
        if counts != before:
            with suppress(BrokenPipeError, ValueError):
                reports.send(Busy(running=counts.running, waiting=counts.waiting))
            before = counts
        time.sleep(_BUSY_SECONDS)


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]))
