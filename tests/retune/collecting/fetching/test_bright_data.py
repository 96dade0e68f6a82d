"""The Web Unlocker as a provider, against a stand-in for its API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from retune.collecting.failures import PageFailed
from retune.collecting.fetching.bright_data import API, TOKEN_VARIABLE, open_bright_data
from retune.collecting.fetching.provider_choice import open_provider
from retune.collecting.fetching.providers import PAGE_TYPES
from retune.collecting.records import CollectSettings, FetchedPage
from retune.errors import ConfigError

SETTINGS = CollectSettings(provider="brightdata", zone="my_zone")


def _fetch(answer: Callable[[httpx.Request], httpx.Response]) -> FetchedPage:
    async def run() -> FetchedPage:
        transport = httpx.MockTransport(answer)
        async with open_bright_data(SETTINGS, PAGE_TYPES, transport) as provider:
            return await provider.fetch("https://a.example/1")

    return asyncio.run(run())


def _says(status: int, body: str = "", media_type: str = "text/html") -> httpx.Response:
    answer = {"status_code": status, "headers": {"content-type": media_type}, "body": body}
    return httpx.Response(200, json=answer)


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "secret-token")


def test_the_request_names_zone_and_page_and_carries_the_token() -> None:
    """The token stands in the header alone; the answer's body is UTF-8 whatever the page was."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return _says(200, "<p>Ação</p>", "text/html; charset=iso-8859-1")

    page = _fetch(answer)
    assert (str(asked[0].url), asked[0].headers["authorization"]) == (API, "Bearer secret-token")
    assert json.loads(asked[0].content) == {
        "zone": "my_zone",
        "url": "https://a.example/1",
        "format": "json",
    }
    assert (page.body.decode(), page.charset, page.media_type) == (
        "<p>Ação</p>",
        "utf-8",
        "text/html",
    )


@pytest.mark.parametrize(
    ("answer", "reason", "transient"),
    [
        (_says(404), "HTTP 404", False),  # the page's own status
        (_says(503), "HTTP 503", True),
        (httpx.Response(502), "HTTP 502", True),  # the API's
        (_says(200, "x", "image/png"), "not HTML, Markdown or plain text", False),
        (httpx.Response(200, text="<html>"), "broken answer", False),
    ],
)
def test_failures_are_those_of_any_provider(
    answer: httpx.Response, reason: str, transient: bool
) -> None:
    """The page's status counts, and the API's where there is no page."""
    with pytest.raises(PageFailed) as caught:
        _fetch(lambda _: answer)
    assert (caught.value.reason, caught.value.transient) == (reason, transient)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_the_users_to_mend(status: int) -> None:
    """It names the variable and the zone, and not the token."""
    with pytest.raises(ConfigError, match=TOKEN_VARIABLE) as caught:
        _fetch(lambda _: httpx.Response(status))
    assert "my_zone" in str(caught.value)
    assert "secret-token" not in str(caught.value)


def test_without_a_token_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice by name ends in a message that says how to set it."""
    monkeypatch.delenv(TOKEN_VARIABLE)

    async def run() -> None:
        async with open_provider(SETTINGS):
            pass

    with pytest.raises(ConfigError, match=f"export {TOKEN_VARIABLE}="):
        asyncio.run(run())
