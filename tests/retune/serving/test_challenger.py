"""A challenger beside the champion: its share, its shadow, and how it goes back by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from retune.cli.services.serving import ServeOptions, serve_model
from retune.errors import ArtifactError, ConfigError
from retune.serving.challenger import Challenger, Trial
from retune.serving.messages import Answering, Ask, Refused
from retune.serving.notices import Notice
from retune.serving.rates import Rate
from retune.serving.refusals import lost
from retune.serving.request_log import RequestLog
from retune.serving.server import Server
from tests.retune.serving.stand_in import Alias, Writer, make_challenger, make_server, talk
from tests.retune.serving.test_request_log import MODEL

Use = Callable[[httpx.AsyncClient, Challenger, Alias], Awaitable[Any]]
CHAMPION = MODEL.model_copy(update={"version": 1, "address": "m/1"})
SECOND = MODEL.model_copy(update={"version": 2, "address": "m/2"})


class Dying(Writer):
    """A process that dies whenever it is asked, before or behind its first word."""

    def __init__(self, *, begins: bool = False) -> None:
        super().__init__("half", model=SECOND)
        self._begins = begins

    async def answer(self, ask: Ask) -> AsyncGenerator[Answering, None]:
        self.asked.append(ask)
        if self._begins:
            async for report in super().answer(ask):
                yield report
                break
        raise lost()


class Erring(Writer):
    """A process whose engine answers every request with an error of its own."""

    async def answer(self, ask: Ask) -> AsyncGenerator[Answering, None]:
        self.asked.append(ask)
        yield Refused(id=ask.id, message="the engine failed", fault="server")


def with_challenger(server: Server, worker: Any, use: Use, **share: Any) -> Any:
    """Let a client use a server whose challenger was looked for once."""

    async def go(web: httpx.AsyncClient) -> Any:
        challenger, alias = make_challenger(server, worker, **share)
        await challenger.look()
        try:
            return await use(web, challenger, alias)
        finally:
            await challenger.stop()

    return talk(server, go)


async def ask(web: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await web.post("/generate", json={"prompt": "x"} | body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_share_of_the_ids_is_answered_and_another_is_shadowed() -> None:
    """Of 0.25 the last eight digits from 0 to 3f..., and for the shadow the eight before."""
    trial = Trial(canary=0.25, shadow=0.5)

    assert [trial.answers("f" * 24 + digits) for digits in ("3fffffff", "40000000")] == [
        True,
        False,
    ]
    assert [trial.shadows("f" * 16 + digits + "f" * 8) for digits in ("7fffffff", "80000000")] == [
        *(True, False)
    ]
    assert not Trial().answers("0" * 32) and not Trial().shadows("0" * 32)


def test_about_the_share_that_was_asked_for_is_answered_by_the_challenger() -> None:
    """200 requests, a canary of half of them: with 64 to 136, five standard deviations."""
    server = make_server(Writer("a", model=CHAMPION))

    async def use(web: httpx.AsyncClient, *_: Any) -> list[int]:
        return [(await ask(web))["version"] for _ in range(200)]

    versions = with_challenger(server, Writer("b", model=SECOND), use, canary=0.5)
    assert 64 < versions.count(2) < 136
    assert versions.count(1) + versions.count(2) == 200


def test_a_challenger_that_dies_costs_no_request_and_is_asked_no_more() -> None:
    """The champion answers in its place; after three it is let go, until the alias moves."""
    server, dying = make_server(Writer("a", model=CHAMPION)), Dying()

    async def use(web: httpx.AsyncClient, challenger: Challenger, alias: Alias) -> Any:
        versions = [(await ask(web))["version"] for _ in range(5)]
        told = (await web.get("/readyz")).json()["challenger"]
        await challenger.look()
        still = challenger.worker
        alias.version = 3
        await challenger.look()
        return versions, told, still, challenger.worker, challenger.set_aside

    versions, told, still, later, set_aside = with_challenger(server, dying, use, canary=1.0)
    assert versions == [1] * 5
    assert len(dying.asked) == 3
    assert (told["version"], told["status"]) == (2, "set_aside")
    assert told["reason"] == "3 of its last 3 answers failed"
    assert still is None
    assert later is dying and set_aside is None
    assert dying.stopped
    assert returns(server) == 1.0


def test_an_engine_that_fails_is_a_failure_too() -> None:
    server, erring = make_server(Writer("a", model=CHAMPION)), Erring(model=SECOND)

    told: list[Notice] = []

    async def use(web: httpx.AsyncClient, challenger: Challenger, _: Alias) -> Any:
        return [(await ask(web))["version"] for _ in range(4)], challenger.set_aside

    versions, set_aside = with_challenger(server, erring, use, canary=1.0, told=told)
    assert told == [Notice("let_go", 2, "3 of its last 3 answers failed")]
    assert versions == [1] * 4
    assert set_aside is not None and set_aside[0] == 2


def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    """Half of it is with the client already: it is told that the process died."""
    server = make_server(Writer("a", model=CHAMPION))
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}

    async def use(web: httpx.AsyncClient, *_: Any) -> str:
        return (await web.post("/v1/chat/completions", json=body)).text

    told = with_challenger(server, Dying(begins=True), use, canary=1.0)
    assert "worker_died" in told and '"content":"ha"' in told


def test_a_challenger_that_fails_its_proof_is_never_asked() -> None:
    server, unfit = (
        make_server(Writer("a", model=CHAMPION)),
        Writer("b", model=SECOND, state="unfit"),
    )
    unfit.reason = "a stored prompt is answered otherwise"

    told: list[Notice] = []

    async def use(web: httpx.AsyncClient, challenger: Challenger, _: Alias) -> Any:
        return await ask(web), challenger.set_aside

    answer, set_aside = with_challenger(server, unfit, use, canary=1.0, told=told)
    assert answer["version"] == 1
    assert told == [Notice("refused", 2, "a stored prompt is answered otherwise")]
    assert set_aside == (2, "a stored prompt is answered otherwise")
    assert unfit.asked == []


def test_a_challenger_that_waits_for_its_engine_is_asked_once_that_has_it() -> None:
    """Until then the champion answers, and nothing is held against it."""
    server = make_server(Writer("a", model=CHAMPION))
    waiting = Writer("b", model=SECOND, state="restarting")
    waiting.away = "the engine has no model of the name m-2"

    async def use(web: httpx.AsyncClient, challenger: Challenger, _: Any) -> Any:
        before = (await ask(web))["version"]
        aside = challenger.set_aside
        waiting.state, waiting.away = "ready", ""
        return before, aside, (await ask(web))["version"]

    assert with_challenger(server, waiting, use, canary=1.0) == (1, None, 2)


def test_a_version_whose_files_are_gone_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    server = make_server(Writer("a", model=CHAMPION))

    def missing(_: Alias) -> None:
        raise ArtifactError("its files are gone")

    monkeypatch.setattr(Alias, "find", missing)

    async def use(_: httpx.AsyncClient, challenger: Challenger, __: Alias) -> Any:
        return challenger.set_aside

    assert with_challenger(server, Writer(), use, canary=1.0) == (2, "its files are gone")


@pytest.mark.parametrize("version", [None, 1])
def test_where_there_is_no_other_version_the_champion_answers_all(version: int | None) -> None:
    """No alias, or one that names the champion itself, as after a promotion."""
    server = make_server(Writer("a", model=CHAMPION))

    async def use(web: httpx.AsyncClient, challenger: Challenger, _: Alias) -> Any:
        return await ask(web), challenger.worker, (await web.get("/v1/models")).json()["data"]

    answer, worker, models = with_challenger(server, Writer(), use, canary=1.0, version=version)
    assert (answer["version"], worker) == (1, None)
    assert [each["id"] for each in models] == ["m"]


def test_a_promoted_challenger_is_let_go() -> None:
    """Its alias is gone: the champion's own process answers for it."""
    server, worker = make_server(Writer("a", model=CHAMPION)), Writer("b", model=SECOND)

    async def use(_: httpx.AsyncClient, challenger: Challenger, alias: Alias) -> Any:
        alias.version = None
        await challenger.look()
        await asyncio.gather(*challenger._tasks)
        return challenger.worker

    assert with_challenger(server, worker, use) is None
    assert worker.stopped
    assert returns(server) == 0.0


def test_both_are_asked_by_their_names() -> None:
    """Without a share, which is how the page shows them side by side."""
    server = make_server(Writer("a", model=CHAMPION))
    messages = [{"role": "user", "content": "x"}]

    async def use(web: httpx.AsyncClient, challenger: Challenger, _: Alias) -> Any:
        listed = [each["id"] for each in (await web.get("/v1/models")).json()["data"]]
        bodies = [{"model": each, "messages": messages} for each in listed]
        answers = [await web.post("/v1/chat/completions", json=each) for each in bodies]
        challenger._retire()
        gone = await web.post("/v1/chat/completions", json=bodies[1])
        return [(each.json()["model"], _content(each)) for each in answers], gone

    answers, gone = with_challenger(server, Writer("b", model=SECOND), use)
    assert answers == [("m", "a"), ("m@challenger", "b")]
    assert (gone.status_code, gone.json()["error"]["code"]) == (503, "not_ready")


def _content(answer: httpx.Response) -> str:
    return str(answer.json()["choices"][0]["message"]["content"])


def test_what_is_answered_in_the_shadow_is_kept_as_a_pair(tmp_path: Path) -> None:
    """The client gets the champion's answer; e-mail addresses of both are taken out."""
    log = RequestLog(tmp_path, 1.0, 10**6, 2)
    server = make_server(Writer("ask ana@canarinho.com.br", model=CHAMPION), log=log)

    async def use(web: httpx.AsyncClient, challenger: Challenger, _: Alias) -> str:
        answer = await ask(web)
        await asyncio.gather(*challenger._tasks)
        return str(answer["text"])

    assert with_challenger(server, Writer("b", model=SECOND), use, shadow=1.0) == (
        "ask ana@canarinho.com.br"
    )
    [pair] = (tmp_path / "pairs.jsonl").read_text().splitlines()
    told = json.loads(pair)
    assert told["answers"] == [
        {"model": "m/1", "answer": "ask [e-mail]"},
        {"model": "m/2", "answer": "b"},
    ]
    assert told["messages"] == [{"role": "user", "content": "x"}]
    assert shadows(server, "other") == 1.0


def test_what_the_challenger_answered_it_is_not_asked_again() -> None:
    """Its share and its shadow are all requests: it is asked once."""
    server, worker = make_server(Writer("a", model=CHAMPION)), Writer("b", model=SECOND)

    async def use(web: httpx.AsyncClient, challenger: Challenger, _: Alias) -> None:
        await ask(web)
        await asyncio.gather(*challenger._tasks)

    with_challenger(server, worker, use, canary=1.0, shadow=1.0)
    assert len(worker.asked) == 1


def test_a_challenger_that_fails_in_the_shadow_goes_too() -> None:
    """Three failures that nobody saw."""
    server = make_server(Writer("a", model=CHAMPION))

    async def use(web: httpx.AsyncClient, challenger: Challenger, _: Alias) -> Any:
        for _ in range(3):
            await ask(web)
            await asyncio.gather(*challenger._tasks)
        return challenger.set_aside

    set_aside = with_challenger(server, Dying(), use, shadow=1.0)
    assert set_aside is not None and set_aside[0] == 2
    assert shadows(server, "failed") == 3.0


@pytest.mark.parametrize(("seconds", "goes"), [(2.1, True), (1.9, False)])
@pytest.mark.parametrize("share", [{"canary": 0.5}, {"shadow": 1.0}])
def test_a_challenger_that_is_slow_is_let_go_with_no_answer_lost(
    monkeypatch: pytest.MonkeyPatch, share: dict[str, float], seconds: float, goes: bool
) -> None:
    """By a clock that each answer moves: the champion's by a second, its own by about two."""
    now = [0.0]
    for module in ("challenger", "orders"):
        clock = SimpleNamespace(monotonic=lambda: now[0])
        monkeypatch.setattr(f"retune.serving.{module}.time", clock)

    class Slow(Writer):
        def __init__(self, *answers: str, seconds: float, **options: Any) -> None:
            super().__init__(*answers, **options)
            self._seconds = seconds

        async def answer(self, ask: Ask) -> AsyncGenerator[Answering, None]:
            async for report in super().answer(ask):
                now[0] += self._seconds
                yield report

    server = make_server(Slow("a", model=CHAMPION, seconds=1.0))

    async def use(web: httpx.AsyncClient, challenger: Challenger, _: Alias) -> Any:
        for _ in range(120):
            await ask(web)
            await asyncio.gather(*challenger._tasks)
        return challenger.set_aside

    slow = Slow("b", model=SECOND, seconds=seconds)
    set_aside = with_challenger(server, slow, use, **share)
    assert (set_aside is not None) == goes
    if goes:
        assert set_aside[0] == 2 and "shown to be over 2 times as long" in set_aside[1]
        assert len(slow.asked) < 90


def test_a_slow_shadow_does_not_pile_up() -> None:
    """Four wait for an answer that does not come: the fifth is not asked, and counted so."""
    server = make_server(Writer("a", model=CHAMPION))

    class Hanging(Writer):
        async def answer(self, ask: Ask) -> AsyncGenerator[Answering, None]:
            self.asked.append(ask)
            await asyncio.Event().wait()
            yield Refused(id=ask.id, message="")

    hanging = Hanging(model=SECOND)

    async def use(web: httpx.AsyncClient, *_: Any) -> None:
        for _ in range(5):
            await ask(web)
        await asyncio.sleep(0)

    with_challenger(server, hanging, use, shadow=1.0)
    assert len(hanging.asked) == 4
    assert shadows(server, "skipped") == 1.0


def returns(server: Server) -> float:
    name = "retune_serving_challenger_returns_total"
    return server.metrics.registry.get_sample_value(name) or 0.0


def shadows(server: Server, outcome: str) -> float:
    name = "retune_serving_shadows_total"
    return server.metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


def test_a_challenger_is_served_beside_a_champion_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version or a folder has none beside it."""
    monkeypatch.delenv("RETUNE_API_KEYS", raising=False)
    options: dict[str, Any] = dict.fromkeys(ServeOptions.__dataclass_fields__)
    options |= {"host": "127.0.0.1", "rate": Rate(), "trial": Trial(canary=0.1)}

    with pytest.raises(ConfigError, match="Name the model as models:/NAME@champion"):
        serve_model(["models:/m/3"], ServeOptions(**options))
