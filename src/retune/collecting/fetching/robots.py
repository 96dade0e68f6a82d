"""What each host's robots.txt allows (RFC 9309)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from protego import Protego

from retune.collecting.failures import ROBOTS, WRONG_TYPE, PageFailed
from retune.collecting.fetching.providers import AGENT
from retune.collecting.records import FetchedPage

_MOST_BYTES = 500 * 1024
"""RFC 9309 lets a crawler stop reading here."""


class Robots:
    """Reads robots.txt once per host.

    Args:
        fetch: Fetches one address, with retries.
    """

    def __init__(self, fetch: Callable[[str], Awaitable[FetchedPage]]) -> None:
        self._fetch = fetch
        self._rules: dict[str, asyncio.Task[Protego]] = {}

    async def check(self, url: str) -> float:
        """Ask whether a page may be fetched.

        Args:
            url: The page.

        Returns:
            Seconds to leave between two requests to its host; 0 where nothing is asked.

        Raises:
            PageFailed: It may not, or the host does not say because it does not answer.
        """
        rules = await self._of_host(origin(url))
        if not rules.can_fetch(url, AGENT):
            raise PageFailed(ROBOTS)
        return float(rules.crawl_delay(AGENT) or 0)

    async def _of_host(self, host: str) -> Protego:
        # A task, so that all who ask meanwhile share one request, and its failure.
        if host not in self._rules:
            self._rules[host] = asyncio.create_task(self._read(host))
        return await asyncio.shield(self._rules[host])

    async def _read(self, host: str) -> Protego:
        try:
            page = await self._fetch(f"{host}/robots.txt")
        except PageFailed as failure:
            if _means_no_file(failure.reason):
                return Protego.parse("")  # RFC 9309, 2.3.1.3: no file, no rules
            if failure.reason.startswith("HTTP "):
                # RFC 9309, 2.3.1.4: a host in trouble is to be left alone.
                raise PageFailed("robots.txt unavailable", failure.reason) from failure
            raise
        # A byte-order mark before the first "User-agent" would hide the rules that follow.
        return Protego.parse(page.body[:_MOST_BYTES].decode("utf-8-sig", "replace"))


def _means_no_file(reason: str) -> bool:
    # Something that is no text, such as a picture for all paths, is no robots.txt either.
    return reason == WRONG_TYPE or (reason.startswith("HTTP 4") and reason != "HTTP 429")


def origin(url: str) -> str:
    """Return scheme, host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
