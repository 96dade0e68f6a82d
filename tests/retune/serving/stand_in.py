"""A server whose model is stood in for, with the real routes over it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import httpx

from retune.serving.app import build_app
from retune.serving.finding import ModelSource
from retune.serving.keys import ApiKeys
from retune.serving.messages import Answering, Ask, Delta, EngineSettings, Finished, ServedModel
from retune.serving.server import Limits, Server
from tests.retune.serving.test_request_log import MODEL

SETTINGS = EngineSettings(batch=2, context=64, default_tokens=8)


class Writer:
    """A process that is ready, and writes given answers: choice `i` the i-th, each in two parts."""

    state, reason, ready = "ready", "", None

    def __init__(self, *answers: str, model: ServedModel = MODEL) -> None:
        self.answers, self.model, self.asked = answers, model, list[Ask]()

    async def answer(self, ask: Ask) -> AsyncGenerator[Answering, None]:
        self.asked.append(ask)
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


def make_server(worker: Any, **options: Any) -> Server:
    """Return a server for which a stand-in answers."""
    made = Server(
        ModelSource("m", ""), worker.model, SETTINGS, Limits(), ApiKeys({}), 60, **options
    )
    made._deployment = SimpleNamespace(  # type: ignore[assignment]
        current=worker, model=worker.model, refused=None
    )
    return made


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
