"""What is turned away before a route: other origins and names, bodies that are no JSON or half."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Collection
from typing import Any

import httpx
import pytest

from retune.cli.services.servers import refuse_taken_port
from retune.errors import ServiceError
from retune.serving.app import build_app
from retune.serving.finding import ModelSource
from retune.serving.keys import ApiKeys
from retune.serving.messages import EngineSettings
from retune.serving.server import Limits, Server
from tests.retune.serving.test_request_log import MODEL

SETTINGS = EngineSettings(batch=2, context=64, default_tokens=8)
KEYS = ApiKeys({"ana": hashlib.sha256(b"k").hexdigest()})
LOCAL = ("127.0.0.1", "::1", "localhost")


def server(keys: ApiKeys, hosts: Collection[str] | None, **limits: Any) -> Server:
    return Server(
        ModelSource("m", ""), MODEL, SETTINGS, Limits(**limits), keys, 60, None, hosts=hosts
    )


def send(made: Server, method: str, path: str, **options: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=build_app(made))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as web:
            return await web.request(method, path, **options)

    return asyncio.run(ask())


HEADERS: dict[str, tuple[dict[str, str], str | None]] = {
    "none": ({}, None),
    "a name of this machine": ({"Host": "LOCALHOST:8000"}, None),
    "a new address of this machine": ({"Host": "[::1]:8000"}, None),
    "a page of the server": ({"Origin": "http://127.0.0.1:8000"}, None),
    "a name that points here": ({"Host": "evil.example:8000"}, "foreign_host"),
    "no name": ({"Host": "[::1"}, "foreign_host"),
    "a page under it": (
        {"Host": "evil.example", "Origin": "http://evil.example"},
        "foreign_host",
    ),
    "a page elsewhere": ({"Origin": "https://evil.example"}, "foreign_origin"),
    "a page of another port": ({"Origin": "http://127.0.0.1:3000"}, "foreign_origin"),
    "a page of a file": ({"Origin": "null"}, "foreign_origin"),
}


@pytest.mark.parametrize("path", ["/v1/<script>alert(1)</script>", "/<script>", "/healthz"])
def test_no_answer_is_a_page(path: str) -> None:
    """JSON by its type, and a browser may not think otherwise; refusals quote what was asked."""
    answer = send(server(ApiKeys({}), LOCAL), "GET", path)

    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("what", HEADERS)
def test_without_keys_no_page_of_another_origin_can_ask(what: str) -> None:
    headers, code = HEADERS[what]

    answer = send(server(ApiKeys({}), LOCAL), "GET", "/healthz", headers=headers)

    assert answer.status_code == (200 if code is None else 403)
    assert code is None or answer.json()["error"]["code"] == code


def test_a_key_is_asked_for_under_any_name() -> None:
    """A page of another origin has none."""
    made = server(KEYS, None)
    foreign = {"Host": "models.example", "Origin": "https://evil.example"}

    assert send(made, "GET", "/openapi.json", headers=foreign).status_code == 401
    known = {**foreign, "Authorization": "Bearer k"}
    assert send(made, "GET", "/openapi.json", headers=known).status_code == 200


@pytest.mark.parametrize("sent", [None, "text/plain", "application/x-www-form-urlencoded", "json"])
def test_only_what_says_that_it_is_json_is_read(sent: str | None) -> None:
    """Of the others a browser sends some for any page, without asking first."""
    headers = {} if sent is None else {"Content-Type": sent}

    answer = send(
        server(ApiKeys({}), LOCAL), "POST", "/generate", content=b'{"prompt": "x"}', headers=headers
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_half_a_body_is_no_fault_of_the_server() -> None:
    """Its client has gone: 499 is counted, as for one that leaves its answer."""
    made = server(ApiKeys({}), LOCAL)
    messages = [
        {"type": "http.request", "body": b'{"prompt"', "more_body": True},
        {"type": "http.disconnect"},
    ]
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {
        **{"type": "http", "method": "POST", "path": "/generate", "headers": headers},
        **{"query_string": b"", "raw_path": b"/generate", "http_version": "1.1", "scheme": "http"},
    }

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def answer(message: Any) -> None:
        pass

    asyncio.run(build_app(made)(scope, receive, answer))

    labels = {"route": "/generate", "status": "499"}
    assert made.metrics.registry.get_sample_value("retune_serving_requests_total", labels) == 1.0


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    made = server(ApiKeys({}), LOCAL, seconds=0.01)

    async def body() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    headers = {"Content-Type": "application/json"}
    answer = send(made, "POST", "/generate", content=body(), headers=headers)

    assert answer.status_code == 408


def test_a_port_that_is_taken_on_one_address_is_taken_on_all() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"cannot have port {port} of 0\.0\.0\.0"):
            refuse_taken_port("retune serve", port, "--port", "0.0.0.0")
