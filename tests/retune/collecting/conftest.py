"""A small web without a network: answers by address, and a record of who asked for what."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from retune.collecting.fetching.fetcher import Fetcher, FetchResult
from retune.collecting.fetching.providers import HttpProvider, http_client
from retune.collecting.records import CollectSettings
from tests.shared_sets import shared_set

PAGE = "<html><body><main><h1>Title</h1><p>Some text that stands here.</p></main></body></html>"


@pytest.fixture(scope="session")
def tutorial() -> Path:
    """The five pages of the Python tutorial; without them the tests that need them are skipped."""
    return shared_set("python_docs_html", "tutorial")


class Web:
    """Answers by address; one that is not listed is a page, except robots.txt, which is 404."""

    def __init__(self) -> None:
        self.answers: dict[str, list[httpx.Response | BaseException]] = {}
        self.asked: Counter[str] = Counter()
        self.order: list[str] = []
        self.open: Counter[str] = Counter()
        self.most_open: Counter[str] = Counter()
        self.most_open_at_all = 0

    def say(self, url: str, *answers: httpx.Response | BaseException) -> None:
        """Give answers to the first, second, ... request; the last one goes on for ever."""
        self.answers[url] = list(answers)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        url, host = str(request.url), request.url.host
        self.asked[url] += 1
        self.order.append(url)
        self.open[host] += 1
        self.most_open[host] = max(self.most_open[host], self.open[host])
        self.most_open_at_all = max(self.most_open_at_all, self.open.total())
        await asyncio.sleep(0.001)
        self.open[host] -= 1
        return self._answer(url)

    def _answer(self, url: str) -> httpx.Response:
        waiting = self.answers.get(url)
        if waiting is None:
            robots = url.endswith("/robots.txt")
            return httpx.Response(404) if robots else page(PAGE)
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def page(text: str | bytes, content_type: str = "text/html; charset=utf-8") -> httpx.Response:
    """Return a page as an answer."""
    content = text.encode() if isinstance(text, str) else text
    return httpx.Response(200, content=content, headers={"content-type": content_type})


class Fetching:
    """Fetches from a `Web` with waits that are counted and not waited."""

    def __init__(self, web: Web, folder: Path) -> None:
        self.web = web
        self.folder = folder
        self.waits: list[float] = []
        self.seen: list[tuple[int, int]] = []

    def __call__(self, urls: Sequence[str], **settings: Any) -> list[FetchResult]:
        return asyncio.run(self._run(urls, CollectSettings(cache=self.folder, **settings)))

    async def _run(self, urls: Sequence[str], settings: CollectSettings) -> list[FetchResult]:
        async with http_client(httpx.MockTransport(self.web)) as client:
            provider = HttpProvider(
                client,
                timeout_seconds=settings.timeout_seconds,
                max_bytes=settings.max_page_bytes,
            )
            fetcher = Fetcher(provider, settings, sleep=self._sleep, chance=lambda: 0.0)
            return await fetcher.fetch_all(
                urls, lambda done, total: self.seen.append((done, total))
            )

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture
def web() -> Web:
    """A web in which every page exists."""
    return Web()


@pytest.fixture
def fetch(web: Web, tmp_path: Path) -> Fetching:
    """Fetches from the web into a fresh cache."""
    return Fetching(web, tmp_path / "cache")
