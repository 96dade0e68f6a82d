"""Who fetches a page: the protocol, the plain HTTP client, and the choice by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import httpx

import retune
from retune.collecting.fetching.answers import (
    check_size,
    check_status,
    check_type,
    content_type,
    httpx_failures,
)
from retune.collecting.records import CollectSettings, FetchedPage
from retune.proxies import refuse_lost_proxy

AGENT = "retune"
"""The name that robots.txt may address."""
USER_AGENT = f"{AGENT}/{retune.__version__} (page collector; obeys robots.txt as '{AGENT}')"
PAGE_TYPES = frozenset(
    {"text/html", "application/xhtml+xml", "text/markdown", "text/x-markdown", "text/plain"}
)
_MOST_REDIRECTS = 5


class PageProvider(Protocol):
    """Fetches one page, in one attempt; retries and politeness are not its business."""

    async def fetch(self, url: str) -> FetchedPage:
        """Return the page.

        Raises:
            PageFailed: It did not come, with whether asking again may help.
        """


class HttpProvider:
    """Asks the page's own host.

    Args:
        client: The HTTP client; it follows redirects and has no time limit of its own.
        timeout_seconds: Longest time for one request as a whole.
        max_bytes: A longer body is not read to its end.
        media_types: What is read at all; None reads anything.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        timeout_seconds: float,
        max_bytes: int,
        media_types: frozenset[str] | None = PAGE_TYPES,
    ) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_bytes
        self._media_types = media_types

    async def fetch(self, url: str) -> FetchedPage:
        """Return the page behind `url`, after redirects.

        Raises:
            PageFailed: No answer in time, an error status, too large, or not a page.
        """
        with httpx_failures():
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._client.stream("GET", url) as response,
            ):
                check_status(response.status_code, response.headers)
                media_type, charset = content_type(response.headers)
                check_type(media_type, self._media_types)
                return FetchedPage(
                    url=url,
                    final_url=str(response.url),
                    media_type=media_type,
                    charset=charset,
                    body=await _read(response, self._max_bytes),
                )


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    # Counted after decompression, so that a small file that unpacks to gigabytes stops too.
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        check_size(len(body), max_bytes)
    return bytes(body)


@asynccontextmanager
async def open_http(
    settings: CollectSettings, media_types: frozenset[str] | None
) -> AsyncIterator[PageProvider]:
    """Open a provider that asks the sites themselves.

    Args:
        settings: Its limits.
        media_types: What is read at all; None: everything.
    """
    async with http_client() as client:
        yield HttpProvider(
            client,
            timeout_seconds=settings.timeout_seconds,
            max_bytes=settings.max_page_bytes,
            media_types=media_types,
        )


def http_client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """Return the client of `HttpProvider`.

    Args:
        transport: In place of the network, for tests.

    Raises:
        ConfigError: The environment names a proxy that cannot be used.
    """
    refuse_lost_proxy("Fetching pages")
    return httpx.AsyncClient(
        headers={
            "user-agent": USER_AGENT,
            "accept": "text/html,application/xhtml+xml,text/markdown;q=0.9,*/*;q=0.5",
        },
        follow_redirects=True,
        max_redirects=_MOST_REDIRECTS,
        timeout=None,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        transport=transport,
    )
