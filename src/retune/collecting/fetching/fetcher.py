"""Fetching many pages politely: robots.txt, limits, retries, and a cache that survives a kill."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Protocol

from retune.collecting.failures import PageFailed
from retune.collecting.fetching.pacing import HostPace, Sleep, backoff_seconds, draw_chance
from retune.collecting.fetching.page_cache import PageCache
from retune.collecting.fetching.provider_choice import open_provider
from retune.collecting.fetching.providers import PageProvider
from retune.collecting.fetching.robots import Robots, origin
from retune.collecting.records import CollectSettings, FetchedPage, Outcome
from retune.records import Record


class FetchResult(Record):
    """What became of one address: its page lies in the cache, or it failed."""

    url: str
    failure: Outcome | None = None
    reused: bool = False


class Progress(Protocol):
    """Is told after each page."""

    def __call__(self, done: int, total: int) -> None:
        """Note that `done` of `total` pages are settled."""


def fetch_pages(
    urls: Sequence[str], settings: CollectSettings, progress: Progress
) -> list[FetchResult]:
    """Fetch pages into the cache; those that lie there already are not asked for again.

    Args:
        urls: Addresses, each once.
        settings: Provider, limits, cache.
        progress: Told after each page.

    Returns:
        One result per address, in their order.

    Raises:
        ConfigError: The provider cannot work (no token, a refused one).
        ArtifactError: The cache cannot be written.
    """

    async def run() -> list[FetchResult]:
        async with open_provider(settings) as provider:
            return await Fetcher(provider, settings).fetch_all(urls, progress)

    return asyncio.run(run())


class Fetcher:
    """Fetches pages through a provider.

    Args:
        provider: Fetches one page in one attempt.
        settings: Limits and cache.
        sleep: Waits; tests count instead.
        chance: Draws jitter.
    """

    def __init__(
        self,
        provider: PageProvider,
        settings: CollectSettings,
        *,
        sleep: Sleep = asyncio.sleep,
        chance: Callable[[], float] = draw_chance,
    ) -> None:
        self._provider = provider
        self._settings = settings
        self._sleep = sleep
        self._chance = chance
        self._cache = PageCache(settings.cache)
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._robots = Robots(self._fetch_stubbornly)
        self._paces: dict[str, HostPace] = {}

    async def fetch_all(self, urls: Sequence[str], progress: Progress) -> list[FetchResult]:
        """Fetch pages, `per_host` at a time from each host.

        Args:
            urls: Addresses, each once.
            progress: Told after each page.

        Returns:
            One result per address, in their order.
        """
        results: dict[str, FetchResult] = {}

        async def work(queue: Iterator[str]) -> None:
            for url in queue:
                results[url] = await self._settle(url)
                progress(len(results), len(urls))

        async with _unwrapped(), asyncio.TaskGroup() as group:
            for _, of_host in groupby(sorted(urls, key=origin), key=origin):
                # Workers of one host share its queue, so that a slow host holds up no other one.
                queue = iter(list(of_host))
                for _ in range(self._settings.per_host):
                    group.create_task(work(queue))
        return [results[url] for url in urls]

    async def fetch_allowed(self, url: str) -> FetchedPage:
        """Fetch one page, if robots.txt lets us, with retries; the cache is not asked.

        Args:
            url: Its address.

        Returns:
            The page.

        Raises:
            PageFailed: It may not be fetched or did not come.
        """
        delay = await self._robots.check(url)
        longest = self._settings.longest_wait_seconds
        if delay > longest:
            raise PageFailed("host asks for too long a wait", f"Crawl-delay of {delay:g} s")
        self._pace(url).delay_seconds = delay
        page = await self._fetch_stubbornly(url)
        if page.final_url != url:
            await self._robots.check(page.final_url)
        return page

    async def _settle(self, url: str) -> FetchResult:
        if not self._settings.refresh and self._cache.load(url) is not None:
            return FetchResult(url=url, reused=True)
        try:
            page = await self.fetch_allowed(url)
        except PageFailed as failure:
            outcome = Outcome(
                source=url, status="failed", reason=failure.reason, detail=failure.detail
            )
            return FetchResult(url=url, failure=outcome)
        self._cache.save(page)
        return FetchResult(url=url)

    async def _fetch_stubbornly(self, url: str) -> FetchedPage:
        pace = self._pace(url)
        for attempt in range(1, self._settings.attempts + 1):
            await pace.turn()
            try:
                # The slot is free again while a page waits for its next try.
                async with self._slots:
                    return await self._provider.fetch(url)
            except PageFailed as failure:
                if not failure.transient or attempt == self._settings.attempts:
                    raise
                await self._wait(pace, attempt, failure)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _wait(self, pace: HostPace, attempt: int, failure: PageFailed) -> None:
        asked = failure.wait_seconds
        if asked is None:
            await self._sleep(backoff_seconds(attempt, self._chance()))
        elif asked > self._settings.longest_wait_seconds:
            raise PageFailed(failure.reason, f"asks to wait {asked:g} s") from failure
        else:
            # The host speaks to all of us, not to this page alone; `turn` does the waiting.
            pace.hold(asked)

    def _pace(self, url: str) -> HostPace:
        return self._paces.setdefault(origin(url), HostPace(self._sleep))


class _unwrapped:
    """Lets the first error of a task group travel as itself."""

    async def __aenter__(self) -> None:
        """Start to watch."""

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise the first error in place of its group."""
        if isinstance(error, BaseExceptionGroup):
            raise error.exceptions[0] from None
