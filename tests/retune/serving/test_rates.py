"""What a key may ask for in a minute: requests and tokens, from a clock that the tests move."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from retune.cli.services.serving import ServeOptions, serve_model
from retune.errors import ConfigError
from retune.serving.app import build_app
from retune.serving.finding import ModelSource
from retune.serving.keys import ApiKeys, read_keys
from retune.serving.messages import Ask
from retune.serving.rates import KeyRates, Rate, most_tokens
from retune.serving.refusals import Refusal
from retune.serving.server import Limits, Server
from tests.retune.serving.test_limits import ASK, DONE, SETTINGS, Client, Silent, read
from tests.retune.serving.test_request_log import MODEL

DIGEST = hashlib.sha256(b"k").hexdigest()


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_minute_has_so_many_requests_and_they_come_back_evenly() -> None:
    """Of 3 a minute one comes back in 20 s; after 15 of them, 5 are left to wait."""
    clock = Clock()
    rates = KeyRates({"ana": Rate(requests=3)}, clock)

    assert [rates.take_request("ana") for _ in range(3)] == [None] * 3
    clock.now += 15
    refused = rates.take_request("ana")
    assert refused is not None
    assert (refused.status, refused.code) == (429, "requests_rate_limit_exceeded")
    assert refused.headers == {"Retry-After": "5"}
    clock.now += 5
    assert rates.take_request("ana") is None
    assert rates.take_request("ana") is not None


def test_keys_do_not_share_their_limits() -> None:
    """Ana's are used up; of bo nothing is taken, and who has no limit is never bounded."""
    rates = KeyRates({"ana": Rate(requests=1), "bo": Rate(requests=1), "cy": Rate()}, Clock())

    assert rates.take_request("ana") is None
    assert rates.take_request("ana") is not None
    assert rates.take_request("bo") is None
    assert [rates.take_request("cy") for _ in range(9)] == [None] * 9


def test_tokens_that_a_request_did_not_take_are_given_back() -> None:
    """80 of 100 are set aside and 30 taken: 70 are there for the next one, and not 71."""
    rates = KeyRates({"ana": Rate(tokens=100)}, Clock())

    aside = rates.set_tokens_aside("ana", 80)
    with pytest.raises(Refusal):
        rates.set_tokens_aside("ana", 21)
    aside.settle(30)
    aside.settle(0)  # Once: what is settled is over.
    with pytest.raises(Refusal):
        rates.set_tokens_aside("ana", 71)
    rates.set_tokens_aside("ana", 70)


def test_what_is_more_than_a_minute_allows_waits_for_all_of_it_and_is_owed() -> None:
    """250 of 100 a minute: taken from a full bucket, after which nothing is there for 90 s."""
    clock = Clock()
    rates = KeyRates({"ana": Rate(tokens=100)}, clock)

    rates.set_tokens_aside("ana", 250).settle(250)
    with pytest.raises(Refusal) as refused:
        rates.set_tokens_aside("ana", 1)
    # 150 are owed and one is asked for, at 100 in 60 s: 90.6 s.
    assert refused.value.headers == {"Retry-After": "91"}
    clock.now += 91
    rates.set_tokens_aside("ana", 1)


def test_what_a_request_may_take_is_its_prompt_and_all_that_it_may_write() -> None:
    """Eight characters are two tokens and one for the rest; two answers of ten; ids are counted."""
    chat = Ask(id="0", messages=({"role": "user", "content": "12345678"},), max_tokens=10, n=2)

    assert most_tokens(chat, 99) == 3 + 20
    assert most_tokens(chat.model_copy(update={"classify": True}), 99) == 3
    assert most_tokens(Ask(id="0", prompt_ids=(1, 2, 3)), 99) == 3 + 99


def server(rate: Rate) -> Server:
    keys = ApiKeys({"ana": DIGEST})
    return Server(ModelSource("m", ""), MODEL, SETTINGS, Limits(), keys, 60, rate=rate)


def test_beyond_its_requests_a_key_gets_429_before_its_body_is_read() -> None:
    """The third request of two a minute: told how long to wait, counted; /healthz needs no key."""
    made = server(Rate(requests=2))

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=build_app(made))
        headers = {"Authorization": "Bearer k"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://x", headers=headers
        ) as web:
            found = [await web.get("/openapi.json") for _ in range(2)]
            found.append(await web.post("/generate", content=b"no JSON"))
            return [*found, await web.get("/healthz")]

    first, second, third, health = asyncio.run(ask())
    assert [each.status_code for each in (first, second, third, health)] == [200, 200, 429, 200]
    assert [each.headers["x-ratelimit-remaining-requests"] for each in (first, second)] == [
        *("1", "0")
    ]
    assert 1 <= int(third.headers["retry-after"]) <= 30
    assert third.json()["error"]["type"] == "rate_limit_error"
    counted = made.metrics.registry.get_sample_value(
        "retune_serving_limited_total", {"limit": "requests"}
    )
    assert counted == 1.0


def test_an_answer_is_settled_by_what_it_took_and_one_that_is_left_by_what_it_might() -> None:
    """DONE takes 2 tokens. ASK may take 9: one for its prompt, and 8 as the server has it."""
    made = server(Rate(tokens=1000))
    left = made.rates._tokens["ana"]

    async def ask() -> None:
        worker = Silent()
        worker.let.set()
        assert await read(made, worker, Client("ana")) == [DONE]
        assert 997.9 < left.level < 999

        gone = Client("ana")
        gone.gone.set()
        with pytest.raises(Refusal):
            await read(made, Silent(), gone)
        assert 988.9 < left.level < 990

    asyncio.run(ask())
    assert most_tokens(ASK, SETTINGS.default_tokens) == 9


def test_a_key_without_tokens_left_is_told_so() -> None:
    """Ten a minute: the first answer sets all aside, the second has to wait."""
    made = server(Rate(tokens=9))

    async def ask() -> None:
        worker = Silent()
        first = asyncio.create_task(read(made, worker, Client("ana")))
        await worker.asked.wait()
        with pytest.raises(Refusal) as refused:
            await read(made, worker, Client("ana"))
        assert (refused.value.status, refused.value.code) == (429, "tokens_rate_limit_exceeded")
        worker.let.set()
        assert await first == [DONE]

    asyncio.run(ask())


def test_a_line_of_the_file_has_limits_of_its_own_and_the_option_fills_the_rest(
    tmp_path: Path,
) -> None:
    """Ana has tokens of her own, bo both, and cy none."""
    file = tmp_path / "keys"
    lines = (f"ana:{DIGEST} tokens=500", f"bo:{DIGEST} requests=7 tokens=8", f"cy:{DIGEST}")
    file.write_text("\n".join(lines))

    rates = read_keys(file, {}).rates(Rate(requests=60))

    def told(holder: str) -> list[str]:
        return [value.decode() for name, value in rates.headers(holder) if b"-limit-" in name]

    assert [told(each) for each in ("ana", "bo", "cy")] == [["60", "500"], ["7", "8"], ["60"]]


@pytest.mark.parametrize(
    "limits", ["requests=0", "tokens=-1", "tokens=1e9", "token=5", "requests=1 requests=2"]
)
def test_a_limit_that_is_none_is_refused(tmp_path: Path, limits: str) -> None:
    """Not passed over: a key would then be bounded by nothing."""
    file = tmp_path / "keys"
    file.write_text(f"ana:{DIGEST} {limits}\n")

    with pytest.raises(ConfigError, match=r"keys:1: '\S+' (is no limit|stands there twice)"):
        read_keys(file, {})


def test_limits_of_keys_without_a_key_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would bound nobody."""
    monkeypatch.delenv("RETUNE_API_KEYS", raising=False)
    options: dict[str, Any] = dict.fromkeys(ServeOptions.__dataclass_fields__)
    options |= {"host": "127.0.0.1", "rate": Rate(requests=5)}

    with pytest.raises(ConfigError, match="there is no API key"):
        serve_model(["models:/m@champion"], ServeOptions(**options))
