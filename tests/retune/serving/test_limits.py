"""Bounds of the server by itself, over a process that is stood in for: queue, time, keys."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retune.errors import ConfigError
from retune.serving.finding import ModelSource
from retune.serving.keys import ApiKeys, read_keys
from retune.serving.messages import Ask, EngineSettings, Finished, ServedModel
from retune.serving.openai_answers import TextAnswers
from retune.serving.orders import Order
from retune.serving.refusals import Refusal
from retune.serving.request_log import RequestLog
from retune.serving.server import Limits, Server
from retune.serving.streaming import TimedStream, write_events
from tests.retune.serving.test_request_log import MODEL

SETTINGS = EngineSettings(batch=2, context=64, default_tokens=8)
ASK = Ask(id="0" * 32, prompt="x")
DONE = Finished(
    id=ASK.id,
    choice=0,
    text="y",
    reason="stop",
    prompt_tokens=1,
    tokens=1,
    first_token_seconds=0.1,
)


class Silent:
    """A process that answers once it is let, and notes whether it was left before."""

    model: ServedModel = MODEL

    def __init__(self) -> None:
        self.let, self.asked, self.left = asyncio.Event(), asyncio.Event(), 0

    async def answer(self, ask: Ask) -> AsyncGenerator[Finished, None]:
        try:
            self.asked.set()
            await self.let.wait()
            yield DONE
        finally:
            self.left += not self.let.is_set()


class Client:
    """A connection that stays open until it goes away."""

    def __init__(self, holder: str | None = None) -> None:
        self.gone = asyncio.Event()
        self.state = SimpleNamespace(holder=holder)

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}


def server(**limits: Any) -> Server:
    return Server(ModelSource("m", ""), MODEL, SETTINGS, Limits(**limits), ApiKeys({}), 60)


async def read(made: Server, worker: Silent, client: Client) -> list[Any]:
    order = Order(lambda _: ASK, worker)  # type: ignore[arg-type]
    return [each async for each in made.reports(order, client)]  # type: ignore[arg-type]


def test_more_requests_than_the_queue_takes_are_sent_away_for_a_while() -> None:
    """Of two places both are taken: the third gets 429; once they are answered, a fourth is."""

    async def ask() -> None:
        made, worker = server(queue=2), Silent()
        first = [asyncio.create_task(read(made, worker, Client())) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await read(made, worker, Client())
        assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
        worker.let.set()
        assert await asyncio.gather(*first) == [[DONE], [DONE]]
        assert await read(made, worker, Client()) == [DONE]

    asyncio.run(ask())


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    async def ask() -> None:
        made, worker = server(seconds=0.01), Silent()
        with pytest.raises(Refusal) as refused:
            await read(made, worker, Client())
        assert (refused.value.status, refused.value.code) == (504, "timeout")
        assert worker.left == 1

    asyncio.run(ask())


def test_nobody_computes_for_a_client_that_has_gone() -> None:
    async def ask() -> None:
        made, worker, client = server(), Silent(), Client()
        client.gone.set()
        with pytest.raises(Refusal) as refused:
            await read(made, worker, client)
        assert (refused.value.status, worker.left) == (499, 1)

    asyncio.run(ask())


def test_a_reader_that_is_cancelled_leaves_what_computes_without_another_error() -> None:
    """As a client does that leaves a stream: its place is free, and nobody computes for it."""

    async def ask() -> None:
        made, worker = server(queue=1), Silent()
        reading = asyncio.create_task(read(made, worker, Client()))
        await worker.asked.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert worker.left == 1
        worker.let.set()
        assert await read(made, worker, Client()) == [DONE]

    asyncio.run(asyncio.wait_for(ask(), 60))


def test_a_client_that_does_not_read_its_stream_is_cut_off() -> None:
    """Sending never ends; the place is free nevertheless."""

    async def ask() -> None:
        made, worker, client = server(queue=1), Silent(), Client()
        worker.let.set()
        order = Order(lambda _: ASK, worker)  # type: ignore[arg-type]
        reports = made.reports(order, client)  # type: ignore[arg-type]
        first = await anext(reports, None)
        events = write_events(
            ASK, TextAnswers(ASK.id, "m", logprobs=False), first, reports, usage=False
        )
        scope = {"type": "http", "state": {"id": ASK.id}}

        async def send(message: Any) -> None:
            await asyncio.Event().wait()

        await TimedStream(events, reports, 0.01)(scope, client.receive, send)
        assert await read(made, worker, Client()) == [DONE]

    asyncio.run(asyncio.wait_for(ask(), 60))


def test_an_answer_is_given_though_it_cannot_be_kept(tmp_path: Path) -> None:
    """The log's folder is gone; what could not be written is counted."""
    folder = tmp_path / "log"
    log = RequestLog(folder, 1.0, 1000, 2)
    folder.rmdir()
    made = server()
    made.log = log

    async def ask() -> None:
        worker = Silent()
        worker.let.set()
        assert await read(made, worker, Client()) == [DONE]

    asyncio.run(ask())
    assert made.metrics.registry.get_sample_value("retune_serving_unkept_total") == 1.0


def test_a_key_lets_its_holder_in_and_nobody_else(tmp_path: Path) -> None:
    """Keys of the file by their digest, those of the variable as they are."""
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\nana:{hashlib.sha256(b'k1').hexdigest()}\n")

    keys = read_keys(file, {"RETUNE_API_KEYS": "k2, k3,"})

    sent = ["Bearer k1", "bearer k3", "Bearer k4", "Basic k1", "k1", "", None]
    assert [keys.holder(each) for each in sent] == [
        *("ana", "RETUNE_API_KEYS-2", None, None, None, None, None)
    ]
    assert not ApiKeys({}) and keys


@pytest.mark.parametrize("line", ["ana:k1", "ana", f"ana:{'0' * 63}"])
def test_a_line_that_is_no_digest_is_refused(tmp_path: Path, line: str) -> None:
    """A key that stands in a file as it is would be one more place to lose it."""
    file = tmp_path / "keys"
    file.write_text(line)

    with pytest.raises(ConfigError, match=r"keys:1: expected NAME:SHA256") as refused:
        read_keys(file, {})
    assert line not in str(refused.value)


def test_a_file_without_any_key_lets_nobody_in(tmp_path: Path) -> None:
    """Nor does a variable of commas alone; no file and an empty variable are no keys at all."""
    file = tmp_path / "keys"
    file.write_text("# nobody yet\n")

    with pytest.raises(ConfigError, match="no key in it, so that everybody would be let in"):
        read_keys(file, {"RETUNE_API_KEYS": "k2"})
    with pytest.raises(ConfigError, match="RETUNE_API_KEYS is set and holds no key"):
        read_keys(None, {"RETUNE_API_KEYS": " , "})
    assert not read_keys(None, {"RETUNE_API_KEYS": ""})


@pytest.mark.parametrize("name", ["ana", "RETUNE_API_KEYS-1"])
def test_a_name_has_one_key(tmp_path: Path, name: str) -> None:
    """The second would take the place of the first, whose holder would be shut out."""
    file = tmp_path / "keys"
    file.write_text(f"ana:{'0' * 64}\n{name}:{'1' * 64}\n")

    with pytest.raises(ConfigError, match=rf"keys:2: the name {name} "):
        read_keys(file, {})
