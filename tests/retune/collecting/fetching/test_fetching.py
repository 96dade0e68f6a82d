"""Politeness, retries, limits, and what a cache saves."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from retune.collecting.failures import PageFailed
from retune.collecting.fetching.answers import retry_after_seconds
from retune.collecting.fetching.fetcher import Fetcher
from retune.collecting.fetching.pacing import backoff_seconds
from retune.collecting.fetching.page_cache import PageCache
from retune.collecting.records import CollectSettings, FetchedPage
from tests.retune.collecting.conftest import Fetching, Web, page

A = "https://a.example/"


def _reasons(results: object) -> list[str | None]:
    return [each.failure.reason if each.failure else None for each in results]  # type: ignore[attr-defined]


def test_one_page_that_fails_takes_no_other_with_it(web: Web, fetch: Fetching) -> None:
    """A missing page, a picture, a cut connection, a redirect to nowhere; the others come."""
    web.say(A + "gone", httpx.Response(404))
    web.say(A + "picture", page(b"x", "image/png"))
    web.say(A + "cut", httpx.ConnectError("refused"))
    web.say(A + "astray", httpx.Response(302, headers={"location": "http://xn--.example/"}))
    results = fetch([A + name for name in ("1", "gone", "picture", "cut", "astray", "2")])
    assert _reasons(results) == [
        None,
        "HTTP 404",
        "not HTML, Markdown or plain text",
        "no connection",
        "not an http(s) address",
        None,
    ]
    assert results[2].failure is not None
    assert results[2].failure.detail == "image/png"
    assert fetch.seen[-1] == (6, 6)


def test_results_stand_in_the_order_of_the_addresses(fetch: Fetching) -> None:
    """Hosts are fetched side by side, and the answer is in order all the same."""
    urls = [f"https://{host}.example/{n}" for n in range(3) for host in "cab"]
    assert [each.url for each in fetch(urls)] == urls


def test_robots_txt_keeps_us_out(web: Web, fetch: Fetching) -> None:
    """A path that robots.txt disallows, here by a wildcard, is not asked for."""
    web.say(A + "robots.txt", page("User-agent: *\nDisallow: /*/private", "text/plain"))
    results = fetch([A + "x/private/1", A + "x/public"])
    assert _reasons(results) == ["disallowed by robots.txt", None]
    assert web.asked[A + "x/private/1"] == 0


def test_a_byte_order_mark_hides_no_rule_of_robots_txt(web: Web, fetch: Fetching) -> None:
    """The mark stands before the first "User-agent" and is no part of it."""
    web.say(A + "robots.txt", page("\ufeffUser-agent: *\nDisallow: /private", "text/plain"))
    assert _reasons(fetch([A + "private", A + "b"])) == ["disallowed by robots.txt", None]


def test_robots_txt_may_speak_to_us_by_name(web: Web, fetch: Fetching) -> None:
    """A group for `retune` wins over the one for all."""
    rules = "User-agent: *\nDisallow: /\n\nUser-agent: retune\nDisallow: /b"
    web.say(A + "robots.txt", page(rules, "text/plain"))
    assert _reasons(fetch([A + "a", A + "b"])) == [None, "disallowed by robots.txt"]


def test_robots_txt_is_read_once_per_host(web: Web, fetch: Fetching) -> None:
    """Ten pages of one host cost one look at its rules."""
    fetch([f"{A}{n}" for n in range(10)])
    assert web.asked[A + "robots.txt"] == 1


def test_a_host_whose_robots_txt_fails_is_left_alone(web: Web, fetch: Fetching) -> None:
    """RFC 9309: a server error on robots.txt means that nothing is allowed."""
    web.say(A + "robots.txt", httpx.Response(500))
    assert _reasons(fetch([A + "1"])) == ["robots.txt unavailable"]
    assert web.asked[A + "1"] == 0


def test_a_redirect_does_not_lead_around_robots_txt(web: Web, fetch: Fetching) -> None:
    """The rules of the host that answers count too."""
    web.say(A + "1", httpx.Response(302, headers={"location": "https://b.example/private"}))
    web.say("https://b.example/robots.txt", page("User-agent: *\nDisallow: /", "text/plain"))
    assert _reasons(fetch([A + "1"])) == ["disallowed by robots.txt"]


def test_crawl_delay_spaces_the_requests(web: Web, fetch: Fetching) -> None:
    """With a delay of 7 s, three pages need two waits; the clock stands still, so 7 and 14."""
    web.say(A + "robots.txt", page("User-agent: *\nCrawl-delay: 7", "text/plain"))
    fetch([A + "1", A + "2", A + "3"])
    assert sorted(round(wait) for wait in fetch.waits) == [7, 14]


def test_the_agent_says_who_asks(web: Web) -> None:
    """Name and version stand in every request."""
    import retune
    from retune.collecting.fetching.providers import http_client

    assert http_client().headers["user-agent"].startswith(f"retune/{retune.__version__} ")


def test_a_busy_host_is_asked_again_when_it_said(web: Web, fetch: Fetching) -> None:
    """429 with `Retry-After: 5`: one wait of 5 s, then the page."""
    web.say(A + "1", httpx.Response(429, headers={"retry-after": "5"}), page("<p>x</p>"))
    assert _reasons(fetch([A + "1"])) == [None]
    assert [round(wait) for wait in fetch.waits] == [5]
    assert web.asked[A + "1"] == 2


def test_a_longer_wait_than_we_bear_gives_the_page_up(web: Web, fetch: Fetching) -> None:
    """An hour is asked for and two minutes are allowed: no wait, no second request."""
    web.say(A + "1", httpx.Response(429, headers={"retry-after": "3600"}))
    results = fetch([A + "1"])
    assert results[0].failure is not None
    assert (results[0].failure.reason, results[0].failure.detail) == (
        "HTTP 429",
        "asks to wait 3600 s",
    )
    assert (web.asked[A + "1"], fetch.waits) == (1, [])


def test_server_errors_are_tried_with_doubled_waits(web: Web, fetch: Fetching) -> None:
    """Four attempts, three waits: half of 1, 2 and 4 s, since chance is 0 here."""
    web.say(A + "1", httpx.Response(503))
    assert _reasons(fetch([A + "1"])) == ["HTTP 503"]
    assert fetch.waits == [0.5, 1.0, 2.0]
    assert web.asked[A + "1"] == 4


def test_what_will_not_change_is_asked_once(web: Web, fetch: Fetching) -> None:
    """A 403 today is a 403 in a second."""
    web.say(A + "1", httpx.Response(403))
    fetch([A + "1"])
    assert (web.asked[A + "1"], fetch.waits) == (1, [])


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 2.0), (0.5, 3.0)])
def test_backoff_lies_between_half_and_all_of_the_doubled_wait(
    chance: float, seconds: float
) -> None:
    """After the third attempt: 1 * 2 ** 2 = 4 s, times 0.5 + chance / 2."""
    assert backoff_seconds(3, chance) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 60.0),  # second 100, and now is second 40
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        ("soon", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    """Both forms of RFC 9110 are read, a date in the past is no wait, nonsense is no header."""
    assert retry_after_seconds(value, now=40.0) == seconds


def test_no_host_is_asked_more_than_its_share_at_a_time(web: Web, fetch: Fetching) -> None:
    """Two per host and three at all, over four hosts of six pages."""
    urls = [f"https://{host}.example/{n}" for host in "abcd" for n in range(6)]
    fetch(urls, per_host=2, concurrency=3)
    assert max(web.most_open.values()) == 2
    assert web.most_open_at_all == 3


def test_a_page_that_never_ends_is_left(web: Web, fetch: Fetching) -> None:
    """100 bytes are allowed and 101 come, without a stated length."""

    async def chunks():  # type: ignore[no-untyped-def]
        yield b"x" * 60
        yield b"x" * 41

    web.say(A + "1", httpx.Response(200, content=chunks(), headers={"content-type": "text/html"}))
    assert _reasons(fetch([A + "1"], max_page_bytes=100)) == ["page too large"]


def test_a_slow_page_runs_out_of_time(web: Web, fetch: Fetching) -> None:
    """The limit is for the request as a whole, and a time-out is worth another try."""
    web.say(A + "robots.txt", httpx.Response(404))
    results = fetch([A + "1"], timeout_seconds=0.0001, attempts=2)
    assert _reasons(results) == ["timed out"]


def test_a_second_run_asks_only_for_what_is_missing(web: Web, fetch: Fetching) -> None:
    """Of three pages one failed; the next run asks for that one, and `refresh` for all."""
    urls = [A + "1", A + "2", A + "3"]
    web.say(A + "2", httpx.Response(404))
    fetch(urls)
    web.say(A + "2", page("<p>now</p>"))
    web.asked.clear()
    results = fetch(urls)
    assert [each.reused for each in results] == [True, False, True]
    assert (web.asked[A + "1"], web.asked[A + "2"]) == (0, 1)
    fetch(urls, refresh=True)
    assert web.asked[A + "1"] == 1


def test_an_interrupted_run_keeps_what_it_had(web: Web, fetch: Fetching) -> None:
    """Ctrl-C on the third page: the first two are not asked for again."""
    web.say(A + "3", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fetch([A + "1", A + "2", A + "3"], per_host=1)
    web.say(A + "3", page("<p>x</p>"))
    web.asked.clear()
    assert [each.reused for each in fetch([A + "1", A + "2", A + "3"])] == [True, True, False]
    assert web.asked[A + "1"] == web.asked[A + "2"] == 0


def test_a_damaged_cached_page_is_fetched_again(web: Web, fetch: Fetching) -> None:
    """One byte of the body is changed on disk."""
    fetch([A + "1"])
    body = next(fetch.folder.glob("*/*.body"))
    body.write_bytes(body.read_bytes()[:-1] + b"!")
    assert fetch([A + "1"])[0].reused is False


def test_a_cached_page_comes_back_as_it_was(tmp_path: Path) -> None:
    """Bytes that are no text, and the charset, survive."""
    cache = PageCache(tmp_path)
    original = FetchedPage(
        url=A, final_url=A + "x", media_type="text/html", charset="latin-1", body=b"\xff\x00\xe7"
    )
    cache.save(original)
    assert cache.load(A) == original


def test_an_error_that_is_no_pages_own_ends_the_run(tmp_path: Path) -> None:
    """A refused token concerns all pages: it travels, as itself and not as a group."""
    import asyncio

    from retune.errors import ConfigError

    class Refused:
        async def fetch(self, url: str) -> FetchedPage:
            if url.endswith("robots.txt"):
                raise PageFailed("HTTP 404")
            raise ConfigError("no such token")

    fetcher = Fetcher(Refused(), CollectSettings(cache=tmp_path))
    with pytest.raises(ConfigError, match="no such token"):
        asyncio.run(fetcher.fetch_all([A], lambda done, total: None))
