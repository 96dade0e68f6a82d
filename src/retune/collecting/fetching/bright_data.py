"""Bright Data's Web Unlocker as a provider: their network fetches the page, for money.

See https://docs.brightdata.com/api-reference/rest-api: one POST per page; the answer states the
page's own status, headers and body.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from retune.collecting.failures import PageFailed
from retune.collecting.fetching.answers import (
    check_size,
    check_status,
    check_type,
    content_type,
    httpx_failures,
)
from retune.collecting.fetching.providers import PageProvider
from retune.collecting.records import CollectSettings, FetchedPage
from retune.errors import ConfigError
from retune.proxies import refuse_lost_proxy

API = "https://api.brightdata.com/request"
TOKEN_VARIABLE = "BRIGHTDATA_API_TOKEN"


class BrightDataProvider:
    """Asks Bright Data's API for a page.

    Args:
        client: HTTP client that carries the token.
        zone: The account's Web Unlocker zone.
        timeout_seconds: Longest time for one request as a whole.
        max_bytes: A longer body is refused.
        media_types: What is accepted at all; None accepts anything.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        zone: str,
        timeout_seconds: float,
        max_bytes: int,
        media_types: frozenset[str] | None,
    ) -> None:
        self._client = client
        self._zone = zone
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_bytes
        self._media_types = media_types

    async def fetch(self, url: str) -> FetchedPage:
        """Return the page behind `url`.

        Raises:
            ConfigError: The token or the zone is refused; no other page would fare better.
            PageFailed: This page did not come.
        """
        request = {"zone": self._zone, "url": url, "format": "json"}
        with httpx_failures():
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._client.post(API, json=request)
        if response.status_code in {401, 403}:
            raise ConfigError(
                f"Bright Data refuses the request with HTTP {response.status_code}. Check the "
                f"token in {TOKEN_VARIABLE} and that it may use the zone {self._zone!r} (--zone)."
            )
        check_status(response.status_code, response.headers)
        return self._read(url, response)

    def _read(self, url: str, response: httpx.Response) -> FetchedPage:
        try:
            answer: dict[str, Any] = response.json()
            status, text = int(answer["status_code"]), str(answer["body"])
            headers = httpx.Headers(answer.get("headers") or {})
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise PageFailed(
                "broken answer", "Bright Data's answer has no status_code, headers and body"
            ) from error
        check_status(status, headers)
        media_type, _ = content_type(headers)
        check_type(media_type, self._media_types)
        body = text.encode("utf-8", "replace")
        check_size(len(body), self._max_bytes)
        # The body came inside JSON, so whatever charset the page had, this is UTF-8 now.
        return FetchedPage(
            url=url, final_url=url, media_type=media_type, charset="utf-8", body=body
        )


@asynccontextmanager
async def open_bright_data(
    settings: CollectSettings,
    media_types: frozenset[str] | None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[PageProvider]:
    """Open the provider with the token of the environment.

    Args:
        settings: Zone and limits.
        media_types: What is accepted at all.
        transport: In place of the network, for tests.

    Yields:
        The provider.

    Raises:
        ConfigError: There is no token.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise ConfigError(
            f"Provider brightdata needs an API token in the variable {TOKEN_VARIABLE}, and it is "
            f"not set. Run `export {TOKEN_VARIABLE}=...` (Bright Data: account settings, API "
            "keys), or leave out --provider to fetch from this machine."
        )
    refuse_lost_proxy("Asking Bright Data")
    async with httpx.AsyncClient(
        headers={"authorization": f"Bearer {token}"}, timeout=None, transport=transport
    ) as client:
        yield BrightDataProvider(
            client,
            zone=settings.zone,
            timeout_seconds=settings.timeout_seconds,
            max_bytes=settings.max_page_bytes,
            media_types=media_types,
        )
