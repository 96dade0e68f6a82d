"""A server whose model is stood in for, with the real routes over it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import uvicorn

from retune.registry.versions.proving import StoredAnswer, StoredAnswers
from retune.serving.app import build_app
from retune.serving.challenger import Challenger, Trial
from retune.serving.finding import ModelSource
from retune.serving.keys import ApiKeys
from retune.serving.messages import (
    Answering,
    Ask,
    Busy,
    Delta,
    EngineSettings,
    Finished,
    Refused,
    ServedModel,
)
from retune.serving.server import Limits, Server
from tests.retune.serving.test_request_log import MODEL
from tests.waiting import free_port, wait_until

SETTINGS = EngineSettings(batch=2, context=64, default_tokens=8)


class Writer:
    """A process that is ready, and writes given answers: choice `i` the i-th, each in two parts."""

    reason, away, ready, busy = "", "", None, Busy(running=0, waiting=0)

    def __init__(self, *answers: str, model: ServedModel = MODEL, state: str = "ready") -> None:
        self.answers, self.model, self.asked = answers, model, list[Ask]()
        self.state, self.in_flight, self.stopped = state, 0, False

    async def settled(self) -> str:
        return self.state

    async def stop(self) -> None:
        self.stopped = True

    async def answer(self, ask: Ask) -> AsyncGenerator[Answering, None]:
        self.asked.append(ask)
        if ask.classify:
            yield Refused(id=ask.id, message="this model has no classes")
            return
        for choice, text in enumerate(self.answers[: ask.n]):
            half = len(text) // 2 if ask.stream else 0
            if half:
                yield Delta(id=ask.id, choice=choice, text=text[:half])
            yield Finished(
                id=ask.id,
                choice=choice,
                text=text[half:],
                reason="stop",
                prompt_tokens=3,
                tokens=2,
                first_token_seconds=0.01,
            )


def worded(user: str | None, system: str | None = None) -> ServedModel:
    """Return a version whose rows were asked in a wording."""
    row = StoredAnswer(prompt_ids=(1,), answer=(2,))
    stored = StoredAnswers(
        made_on="cpu float32", max_new_tokens=1, rows=(row,), system=system, user=user
    )
    return MODEL.model_copy(update={"answers": stored})


def make_server(worker: Any, **options: Any) -> Server:
    """Return a server for which a stand-in answers."""
    made = Server(
        ModelSource("m", ""), worker.model, SETTINGS, Limits(), ApiKeys({}), 60, **options
    )
    made._deployment = SimpleNamespace(  # type: ignore[assignment]
        current=worker, model=worker.model, refused=None
    )
    return made


class Alias:
    """An alias that points to a version, whose model is found by its number."""

    def __init__(self, version: int | None) -> None:
        self.version = version

    def target(self) -> int | None:
        return self.version

    def find(self) -> ServedModel:
        return MODEL.model_copy(update={"version": self.version, "address": f"m/{self.version}"})


def make_challenger(
    server: Server,
    worker: Any,
    *,
    version: int | None = 2,
    canary: float = 0.0,
    shadow: float = 0.0,
    told: Any = None,
    most_slowdown: float = 2.0,
) -> tuple[Challenger, Alias]:
    """Give a server a challenger that a stand-in is; made within its loop, and not polled."""
    alias, told = Alias(version), [] if told is None else told
    challenger = Challenger(
        alias,  # type: ignore[arg-type]
        lambda: 1,
        SETTINGS,
        server.metrics,
        told.append,
        Trial(canary, shadow, most_slowdown),
        3600,
        drain_seconds=5,
    )
    challenger._poll.cancel()
    challenger._start = lambda model: worker  # type: ignore[method-assign, assignment, return-value]
    server.challenger = challenger
    return challenger, alias


def talk(server: Server, use: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    """Let a client use the server's routes; the server's own processes are ended behind it."""

    async def go() -> Any:
        transport = httpx.ASGITransport(app=build_app(server))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as web:
            try:
                return await use(web)
            finally:
                server.validator.close()

    return asyncio.run(go())


@contextmanager
def listening(server: Server) -> Iterator[str]:
    """Serve over a port, in a thread."""
    port = free_port()
    config = uvicorn.Config(build_app(server), port=port, log_config=None, lifespan="off")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    wait_until(lambda: running.started, what="the server")
    try:
        yield f"http://localhost:{port}/"
    finally:
        running.should_exit = True
        thread.join()
        server.validator.close()


def post(server: Server, path: str, **body: Any) -> httpx.Response:
    """Send one request."""

    async def use(web: httpx.AsyncClient) -> httpx.Response:
        return await web.post(path, json=body, timeout=60)

    found: httpx.Response = talk(server, use)
    return found


def chat(server: Server, **body: Any) -> httpx.Response:
    """Ask a chat of one turn."""
    messages = [{"role": "user", "content": "x"}]
    return post(server, "/v1/chat/completions", **{"model": "m", "messages": messages} | body)


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    """Return the events of a stream without its end, which has to be there."""
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]
