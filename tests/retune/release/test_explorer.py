"""The rows of a run's report to look through: which they are, and the page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from retune.data.tables import write_table
from retune.model_records import Role
from retune.records import SideRef
from retune.release import explorer
from retune.release.explorer import Exploration, ExploredRow, explore_rows
from retune.release.report import render
from retune.score_records import Metric, ModelScores, ScoreReport
from retune.scoring.outcomes import write_outcomes
from tests.driven_browser import DrivenBrowser, drive
from tests.flows.planted import MARK, PERSONAL, payload
from tests.retune.release.test_report import example_report

Rows = list[dict[str, Any]]


def row(at: int, value: bool | None, **fields: Any) -> dict[str, Any]:
    return {
        "row_id": f"r{at}",
        "group": f"g{at % 2}",
        "question": f"Question {at}?",
        "reference": "SELECT 1",
        "prediction": "SELECT 1" if value else "SELECT 2",
        "sql_execution_match": value,
        "reason": None,
    } | fields


def scores(folder: Path, rows: Rows, name: str = "sql_execution_match") -> ModelScores:
    folder.mkdir()
    write_outcomes(folder, rows)
    whole = Metric(value=0.5, low=None, high=None, n=len(rows))
    report = ScoreReport(
        digest=str(folder), folder=folder, metrics={name: whole}, rows=len(rows), unscored={}
    )
    return ModelScores.of({"sql": report})


def explore(folder: Path, metric: str = "sql_execution_match", **rows: Rows) -> Exploration:
    ids = [each["row_id"] for each in rows["merged"]]
    schema = pa.schema([("row_id", pa.string()), ("prompt", pa.string())])
    table = [{"row_id": each, "prompt": f"Ask {each}"} for each in ids]
    write_table(folder / "rows.parquet", table, schema)
    side = SideRef(digest="s", folder=folder)
    found: dict[Role, ModelScores] = {
        role: scores(folder / role, each)  # type: ignore[misc]
        for role, each in rows.items()
    }
    return explore_rows(found, metric, side)


def outcomes(found: Exploration) -> dict[str, str]:
    return {each.row_id: each.outcome for each in found.rows}


def test_a_row_is_won_lost_tied_or_unscored_against_the_champion(tmp_path: Path) -> None:
    """By the figure that decides; the base answers beside them and says nothing of it."""
    champion = [row(0, False), row(1, True), row(2, True), row(3, True)]
    merged = [row(0, True), row(1, False), row(2, True), row(3, None)]
    base = [row(at, False) for at in range(4)]
    found = explore(tmp_path, base=base, champion=champion, merged=merged)
    assert outcomes(found) == {"r0": "won", "r1": "lost", "r2": "tied", "r3": "unscored"}
    assert found.against == "champion"
    assert found.selection == "All 4 rows that were answered."
    first = found.rows[0]
    assert (first.prompt, first.group) == ("Ask r0", "g0")
    assert first.answers == {"base": "SELECT 2", "champion": "SELECT 2", "merged": "SELECT 1"}
    assert first.right == {"base": False, "champion": False, "merged": True}


def test_where_what_decides_is_of_no_row_the_answers_own_figure_tells(tmp_path: Path) -> None:
    found = explore(tmp_path, "probe_pass_rate", base=[row(0, False)], merged=[row(0, True)])
    assert (found.metric, outcomes(found)) == ("sql_execution_match", {"r0": "won"})
    assert "higher SQL execution match than the base" in found.basis


def test_of_more_rows_than_a_page_holds_the_lost_and_the_won_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 4 is lost and row 5 won: both before the four that are tied, and all in their order."""
    monkeypatch.setattr(explorer, "MOST_ROWS", 3)
    base = [row(at, at != 5) for at in range(6)]
    merged = [row(at, at != 4) for at in range(6)]
    found = explore(tmp_path, base=base, merged=merged)
    assert outcomes(found) == {"r0": "tied", "r4": "lost", "r5": "won"}
    assert found.selection == (
        "3 of 6 rows, chosen in this order: 1 of 1 lost, 1 of 1 won, 1 of 4 tied."
    )


def test_a_page_ends_where_its_texts_are_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row has 11 + 6 + 8 + 8 + 8 characters: two rows are 82, and a third would be 123."""
    monkeypatch.setattr(explorer, "MOST_CHARACTERS", 100)
    same = [row(at, True) for at in range(4)]
    assert list(outcomes(explore(tmp_path, base=same, merged=same))) == ["r0", "r1"]


def test_personal_data_is_redacted_and_a_long_text_cut(tmp_path: Path) -> None:
    said = f"Write to {PERSONAL['e-mail']} " + "x" * explorer.LONGEST_TEXT
    found = explore(tmp_path, base=[row(0, True)], merged=[row(0, True, prediction=said)])
    shown = found.rows[0].answers["merged"]
    assert shown is not None and PERSONAL["e-mail"] not in shown
    assert len(shown) == explorer.LONGEST_TEXT + 2


def test_a_model_that_was_not_asked_is_said_so(tmp_path: Path) -> None:
    unasked = row(0, None, prediction="", reason="prompt_too_long")
    found = explore(tmp_path, base=[row(0, True)], merged=[unasked])
    assert found.rows[0].answers == {"base": "SELECT 1", "merged": None}


MANY = 2_000


def example(server: str = "http://127.0.0.1:9") -> Exploration:
    """Two thousand rows, a tenth of each end lost and won; the second is hostile."""
    kinds = ("lost", "won", "unscored", *["tied"] * 7)
    rows = [
        ExploredRow(
            row_id=f"r{at}",
            group=f"db{at % 40}",
            outcome=kinds[at % 10],  # type: ignore[arg-type]
            question=f"How many items cost {at}?" if at != 1 else payload(server),
            prompt=f"<SCHEMA> CREATE TABLE t (price INT)\nHow many items cost {at}?",
            reference=f"SELECT COUNT(*) FROM t WHERE price = {at}",
            answers={
                "base": payload(server) if at == 1 else "",
                "champion": f"SELECT COUNT(*) FROM t WHERE price = {at}",
                "merged": f"SELECT MAX(id) FROM t WHERE price = {at}",
            },
            right={"base": False, "champion": True, "merged": False},
        )
        for at in range(MANY)
    ]
    counts = {"lost": 200, "won": 200, "unscored": 200, "tied": 1400}
    return Exploration(
        metric="sql_execution_match",
        against="champion",
        counts=counts,  # type: ignore[arg-type]
        rows=tuple(rows),
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrivenBrowser]:
    with drive(tmp_path_factory.mktemp("browser")) as found:
        yield found


def tab_to(browser: DrivenBrowser, element: str, *, shift: bool = False) -> None:
    """Press Tab; the names for a screen reader are asked once, where few rows are left."""
    for _ in range(10):
        browser.press("Tab", shift=shift)
        if browser.run("document.activeElement.id") == element:
            return
    raise AssertionError(f"no key leads to {element}")


@pytest.mark.slow
def test_two_thousand_rows_are_looked_through_by_keys_alone(
    browser: DrivenBrowser, tmp_path: Path
) -> None:
    """From a file, without a server: rows are filtered and searched, words marked, text is text."""
    page = tmp_path / "report.html"
    report = example_report().model_copy(update={"exploration": example()})
    page.write_text(render("report.html", report), "utf-8")
    browser.open(page.as_uri())
    counted = "#explorer-count"
    assert browser.text(counted) == "2,000 of 2,000 rows"
    assert browser.run("document.querySelector('#samples-alone').hidden")

    tab_to(browser, "explorer-list")
    browser.press("j")
    assert MARK not in browser.run("document.title")
    assert "<img src='http://127.0.0.1:9/picture'" in browser.text("#explorer-row")
    assert r"\u202ederettamer" in browser.text("#explorer-row")
    browser.press("ArrowDown")
    assert browser.text("#explorer-row h3") == "How many items cost 2?"
    browser.press("k")
    browser.press("ArrowUp")
    browser.press("End")
    assert browser.text("#explorer-row .soft") == "tied · row r1999 · group db39"
    selected = "document.querySelector('[aria-selected=true]')"
    active = "document.activeElement.getAttribute('aria-activedescendant')"
    assert browser.run(f"{selected}.id === {active}")
    browser.press("Home")
    # The list holds fifty rows, and more once a mouse has scrolled it to its end.
    options = "document.querySelectorAll('[role=option]').length"
    assert browser.run(options) == 50
    browser.run("document.querySelector('#explorer-list').scrollTop = 1e6")
    browser.wait_for(f"{options} === 100")

    marked = "[...document.querySelectorAll('.sides > div:last-child :is(ins, del)')]"
    shown = browser.run(f"{marked}.map(one => one.tagName + one.textContent).join('|')")
    # Of COUNT(*) and MAX(id), both between the same brackets.
    assert shown == "DEL COUNT|INS MAX|DEL*|INSid"
    tab_to(browser, "explorer-row")
    tab_to(browser, "explorer-outcome", shift=True)
    browser.press("ArrowDown")
    assert browser.text(counted) == "200 of 2,000 rows"
    assert browser.text("#explorer-row .soft").startswith("won")
    tab_to(browser, "explorer-group")
    browser.press("ArrowDown")
    # db0 has every fortieth row, which all end in 0: lost.
    assert browser.text(counted) == "0 of 2,000 rows"
    assert browser.text("#explorer-row") == "No row is like this."
    browser.press("Home")
    tab_to(browser, "explorer-outcome", shift=True)
    browser.press("Home")
    tab_to(browser, "explorer-search")
    browser.write("COST 1960")
    assert browser.text(counted) == "1 of 2,000 rows"
    assert browser.focused() == "Search in questions and answers"
    assert browser.nameless() == []
    assert browser.faults == []


@pytest.mark.parametrize("exploration", [None, example().model_copy(update={"rows": ()})])
def test_without_rows_the_samples_stand_alone(exploration: Exploration | None) -> None:
    report = example_report().model_copy(update={"exploration": exploration})
    page = render("report.html", report)
    assert '<div id="samples-alone">' in page
    assert page.count(report.samples[0].question) == 1


def test_the_page_names_the_one_script_that_may_run() -> None:
    """By its content: another one, or one letter more in it, does not."""
    report = example_report().model_copy(update={"exploration": example()})
    page = render("report.html", report)
    assert page.count("script-src 'sha256-") == 1
    assert "\u2028" not in page and page.count("</script>") == 2
