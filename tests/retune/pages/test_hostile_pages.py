"""Every page, with hostile text in every field that holds text, opened in a real browser."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
from markdown_it import MarkdownIt
from pydantic import BaseModel

from retune.data.reporting import pages as data_pages
from retune.pages import templates
from retune.release import comparing, model_card, overview, report
from retune.retraining import drift_page
from retune.retraining.findings import TriggerFinding
from retune.trials import page as trial_pages
from tests.browser import Browser, listen, open_browser
from tests.flows.planted import MARK, payload
from tests.retune.data.reporting import test_data_report
from tests.retune.release import (
    test_comparing,
    test_explorer,
    test_model_card,
    test_overview,
    test_report,
)
from tests.retune.retraining import test_drift
from tests.retune.trials.conftest import make_result
from tests.retune.trials.test_results import gather

__all__ = ["make_result"]

_KEYS = ("metric", "against", "made_at", "at", "digest", "model", "challenger", "label")
"""Texts that pages look something up by, or cut: names of figures, moments, digests."""


def spoil(value: Any, said: str, kind: Any = None, name: str = "") -> Any:
    """Put hostile text behind every text of a record; what is chosen from a list stays."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        changed = {
            each: spoil(getattr(value, each), said, field.annotation, each)
            for each, field in fields.items()
            if each not in _KEYS
        }
        return value.model_copy(update=changed)
    if isinstance(value, str):
        return f"{value}{said}" if _is_text(kind) else value
    inner = [each for each in get_args(_without_none(kind)) if each is not ...]
    if isinstance(value, Mapping):
        of = inner[1] if len(inner) == 2 else None
        return {key: spoil(each, said, of, name) for key, each in value.items()}
    if isinstance(value, tuple | list):
        kinds = inner if len(inner) == len(value) else inner[:1] * len(value) or [None] * len(value)
        return type(value)(
            spoil(each, said, of, name) for each, of in zip(value, kinds, strict=True)
        )
    return value


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        left = [each for each in get_args(kind) if each is not type(None)]
        return left[0] if len(left) == 1 else kind
    return kind


def _is_text(kind: Any) -> bool:
    return _without_none(kind) is str


Page = Callable[[str, Path, Any], str]


def _report(name: str) -> Page:
    rows = test_explorer.example()
    explored = rows.model_copy(update={"rows": rows.rows[:4]})
    shown = test_report.example_report().model_copy(update={"exploration": explored})
    return lambda said, *_: report.render(name, spoil(shown, said))


def _comparison(name: str) -> Page:
    return lambda said, folder, _: comparing.render_comparison(
        name, spoil(test_comparing.example(folder), said)
    )


def _data(name: str) -> Page:
    return lambda said, *_: data_pages.render(name, spoil(test_data_report.example_report(), said))


def _trials(name: str) -> Page:
    def make(said: str, folder: Path, make_result: Any) -> str:
        found = gather(
            make_result(f"best{said}"),
            make_result("half", [True] * 5 + [False] * 5, reused=True),
            make_result("broken", scores=None, cost=None, state="failed", reason=said),
            folder=folder,
        )
        return trial_pages.render_page(name, found)

    return make


def _overview(said: str, folder: Path, _: Any) -> str:
    lines = [test_overview.entry(month, "promoted", reason=f"r{said}") for month in (1, 2)]
    lines.append(test_overview.entry(3, "rejected", actor=f"a{said}", reason=f"r{said}"))
    return overview.write_overview(f"model{said}", [], lines, folder).read_text("utf-8")


def _card(said: str, *_: Any) -> str:
    return model_card.render_model_card(spoil(test_model_card.card(), said)).split("---\n", 2)[2]


def _drift(said: str, folder: Path, _: Any) -> str:
    index = test_drift.make_index(0.3, 0.1)
    bins = tuple(each.model_copy(update={"label": said}) for each in index.bins)
    index = index.model_copy(update={"bins": bins})
    found = test_drift.make_report(index)
    finding = TriggerFinding(trigger="drift", fires=True, reason=f"r{said}")
    return drift_page.write_drift_page(folder, finding, found, None).read_text("utf-8")


PAGES: dict[str, Page] = {
    "report.html": _report("report.html"),
    "report.md": _report("report.md"),
    "comparison.html": _comparison("comparison.html"),
    "comparison.md": _comparison("comparison.md"),
    "data.html": _data("data.html"),
    "data.md": _data("data.md"),
    "compare.html": _trials("compare.html"),
    "compare.md": _trials("compare.md"),
    "overview.html": _overview,
    "README.md": _card,
    "drift.md": _drift,
}


def as_html(name: str, text: str) -> str:
    """Return a page as a browser gets it; Markdown as a viewer shows it that lets HTML through."""
    if name.endswith(".html"):
        return text
    viewer = MarkdownIt("commonmark", {"html": True}).enable("table")
    return f"<!doctype html><meta charset=utf-8><title>x</title><body>{viewer.render(text)}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser, and the server that nothing may load from."""
    with listen() as server:
        yield open_browser(tmp_path_factory.mktemp("browser"), server)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_hostile_text_is_text(
    name: str, browser: Browser, tmp_path: Path, make_result: Any
) -> None:
    """No script runs, nothing is loaded, and what was said can be read."""
    page = PAGES[name](payload(browser.server), tmp_path, make_result)
    opened = browser.open(as_html(name, page))
    assert (opened.title == MARK, opened.loaded) == (False, [])
    assert f"<script>document.title='{MARK}'" in opened.text
    assert r"\x1b[31mred" in opened.text and "\u202e" not in opened.text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_the_browser_runs_and_loads_what_is_not_guarded(
    name: str, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same page without its guards: else the test above would see nothing of anything."""
    plain = templates.page_templates

    def unguarded(folder: Path, **names: Any) -> Any:
        environment = plain(folder, **names)
        environment.autoescape = False
        environment.finalize = None
        environment.filters |= {"cell": str, "fenced": str}
        return environment

    monkeypatch.setattr(report, "page_templates", unguarded)
    report.templates.cache_clear()
    page = PAGES[name](payload(browser.server), tmp_path, None)
    report.templates.cache_clear()
    opened = browser.open(as_html(name, page.replace("Content-Security-Policy", "x")))
    assert opened.title == MARK
    assert "/picture" in opened.loaded


@pytest.mark.slow
def test_a_page_may_load_nothing_even_where_a_guard_is_missing(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The pages' policy: a text that is not escaped runs no script and asks no server."""
    plain = templates.page_templates

    def unguarded(folder: Path, **names: Any) -> Any:
        environment = plain(folder, **names)
        environment.autoescape = False
        return environment

    monkeypatch.setattr(report, "page_templates", unguarded)
    report.templates.cache_clear()
    page = PAGES["report.html"](payload(browser.server), tmp_path, None)
    report.templates.cache_clear()
    opened = browser.open(page)
    assert (opened.title == MARK, opened.loaded) == (False, [])
