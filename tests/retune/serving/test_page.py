"""The page at `/` in a browser that is driven by its keys alone."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from retune.serving.challenger import Challenger, Trial
from retune.serving.keys import ApiKeys
from retune.serving.page import write_page
from retune.serving.request_log import RequestLog
from tests.driven_browser import DrivenBrowser, drive
from tests.retune.serving.stand_in import Writer, listening, make_server, talk, worded

SCHEMA = "CREATE TABLE sales (item TEXT); INSERT INTO sales VALUES ('<b>tea</b>');"
HOSTILE = (
    "SELECT item FROM sales -- <img src=x onerror=alert(1)><script>document.title='!'</script>"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrivenBrowser]:
    with drive(tmp_path_factory.mktemp("browser")) as found:
        yield found


def is_answered(browser: DrivenBrowser) -> None:
    browser.wait_for("document.querySelector('#told').textContent.includes('there.')")


def test_a_question_is_asked_answered_and_corrected_by_keys_alone(
    browser: DrivenBrowser, tmp_path: Path
) -> None:
    """What the model wrote, and what stands in tables, is shown as text and never run.

    It is asked in the wording of its rows, which the page does not know.
    """
    worker = Writer(HOSTILE, model=worded("{schema}\n{question}"))
    server = make_server(worker, log=RequestLog(tmp_path, 1.0, 10**6, 2))
    with listening(server) as address:
        browser.open(address)
        browser.wait_for("document.querySelector('#state').textContent.startsWith('ready')")
        assert browser.focused() == "Question"
        browser.write("What is sold?")
        browser.tab_to("Schema – CREATE statements, for questions about tables")
        browser.write(SCHEMA)
        browser.press("Enter", control=True)
        is_answered(browser)
        assert browser.text(".answer") == HOSTILE
        assert browser.text(".tried td") == "<b>tea</b>"
        assert "The query runs: 1 row" in browser.text(".tried")
        assert browser.text(".figures").startswith("2 tokens · ")
        assert "tokens a second · first after" in browser.text(".figures")
        assert browser.nameless() == []

        browser.tab_to("Correct it …")
        browser.press("Enter")
        assert browser.focused() == "What it should have answered"
        browser.run("document.activeElement.select()")
        browser.write("SELECT 'tea'")
        browser.tab_to("Send the correction")
        browser.press(" ")
        browser.wait_for("document.querySelector('.judged').textContent.includes('kept')")
        assert browser.run("document.title") == "m – retune serve"

    asked = worker.asked[0].messages
    assert asked is not None
    assert asked[-1]["content"] == "CREATE TABLE sales (item TEXT);\nWhat is sold?"
    row = json.loads((tmp_path / "corrections-sql.jsonl").read_text())
    assert (row["question"], row["query"]) == ("What is sold?", "SELECT 'tea'")
    assert browser.faults == []


def test_where_a_key_is_needed_the_page_asks_for_it(browser: DrivenBrowser) -> None:
    server = make_server(Writer("SELECT 1"))
    server.keys = ApiKeys({"ana": hashlib.sha256(b"k").hexdigest()})
    with listening(server) as address:
        browser.open(address)
        browser.wait_for("document.querySelector('#told').textContent.includes('API key')")
        assert browser.focused().startswith("API key")
        browser.write("k")
        browser.run("document.querySelector('#question').focus()")
        browser.write("Which?")
        browser.press("Enter", control=True)
        is_answered(browser)
        assert browser.text(".answer") == "SELECT 1"
        # Nothing is kept here: nothing can be judged.
        assert browser.run("document.querySelector('.judging').hidden")


def test_what_the_server_refuses_is_told_where_the_answer_would_be(browser: DrivenBrowser) -> None:
    """More tokens than it writes: its own words, in a place that a screen reader reads out."""
    with listening(make_server(Writer("SELECT 1"))) as address:
        browser.open(address)
        browser.write("Which?")
        browser.tab_to("Most tokens")
        browser.write("99999")
        browser.press("Enter", control=True)
        is_answered(browser)
        assert browser.text("[role=alert]") == (
            "max_tokens is 99999; this server writes 4096 at most"
        )


def beside(worker: Writer) -> Challenger:
    """Return a challenger that is ready, and looks for no other."""
    stood_in: Any = SimpleNamespace(
        **{"ready": worker, "worker": worker, "set_aside": None, "trial": Trial()},
        time=lambda *_: None,
    )
    return cast(Challenger, stood_in)


def test_champion_and_challenger_are_asked_side_by_side(browser: DrivenBrowser) -> None:
    """One question, two answers, each under its name and with figures of its own."""
    server = make_server(Writer("SELECT 1"))
    server.challenger = beside(Writer("SELECT 2"))
    with listening(server) as address:
        browser.open(address)
        browser.wait_for("!document.querySelector('#beside').hidden")
        browser.write("Which?")
        browser.press("Enter", control=True)
        is_answered(browser)
        shown = "[...document.querySelectorAll('.answers section')].map(one => one.ariaLabel + ': '"
        assert browser.run(f"{shown} + one.querySelector('.answer').textContent).join()") == (
            "Answer of m: SELECT 1,Answer of m@challenger: SELECT 2"
        )
        browser.tab_to("Ask the challenger too")
        browser.press(" ")
        browser.press("Enter", control=True)
        browser.wait_for("document.querySelectorAll('.answers section').length === 1")
        is_answered(browser)


class Hanging(Writer):
    """Begins its answer, and never ends it."""

    async def answer(self, ask):  # type: ignore[no-untyped-def]
        async for report in super().answer(ask):
            yield report
            await asyncio.Event().wait()


def test_escape_stops_an_answer(browser: DrivenBrowser) -> None:
    """What came of it stays, and it can be asked again."""
    with listening(make_server(Hanging("SELECT 1"))) as address:
        browser.open(address)
        browser.write("Which?")
        browser.press("Enter", control=True)
        browser.wait_for("document.querySelector('.answer')?.textContent === 'SELE'")
        browser.press("Escape")
        browser.wait_for("document.querySelector('[role=alert]').textContent === 'Stopped.'")
        assert browser.run("document.querySelector('#ask').disabled") is False


def test_the_page_is_nobodys_frame_and_its_name_is_text() -> None:
    """It needs no key, and loads from its own server alone."""
    server = make_server(Writer("x"))
    server.keys = ApiKeys({"ana": "0" * 64})

    async def use(web: httpx.AsyncClient) -> list[httpx.Response]:
        return [await web.get("/"), await web.get("/asking.js")]

    page, script = talk(server, use)

    assert (page.status_code, script.status_code) == (200, 200)
    assert page.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert "default-src 'none'" in page.text and "script-src 'self'" in page.text
    assert script.headers["content-type"].startswith("text/javascript")
    assert "<h1>&lt;script&gt;</h1>" in write_page("<script>", feedback=False)
