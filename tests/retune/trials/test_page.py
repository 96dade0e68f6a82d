"""The pages: every trial is on them, texts are escaped, and pictures hold every point."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from retune.pages.numbers import show_count
from retune.trials.page import FILES, render_csv, show_verdict, write_pages
from retune.trials.picture import PANELS, draw_svg
from retune.trials.results import TrialComparison
from tests.retune.trials.conftest import MakeResult
from tests.retune.trials.test_results import gather

HOSTILE = "<script>alert(1)</script> | `x`"


@pytest.fixture
def comparison(make_result: MakeResult, tmp_path: Path) -> TrialComparison:
    """Two finished trials, a stopped one and one that failed with a hostile message."""
    return gather(
        make_result("best"),
        make_result("half", [True] * 5 + [False] * 5, reused=True),
        make_result("slow", scores=None, cost=None, state="stopped", reason="behind the others"),
        make_result("broken", scores=None, cost=None, state="failed", reason=HOSTILE),
        folder=tmp_path / "pages",
        device={"price_per_hour": 2.0, "currency": "BRL"},
    )


def test_all_files_are_written_and_hold_all_trials(comparison: TrialComparison) -> None:
    """A trial that failed is a line too, with its reason."""
    write_pages(comparison)
    for name in FILES:
        assert (comparison.folder / name).stat().st_size > 0
    for name in ("compare.md", "compare.html", "comparison.csv", "comparison.json"):
        text = (comparison.folder / name).read_text("utf-8")
        assert all(each.result.name in text for each in comparison.trials)
        assert "behind the others" in text
    kept = json.loads((comparison.folder / "comparison.json").read_text("utf-8"))
    assert TrialComparison.model_validate_json(json.dumps(kept)) == comparison


def test_texts_of_others_stay_texts(comparison: TrialComparison) -> None:
    """HTML escapes a message, Markdown keeps it in its cell."""
    write_pages(comparison)
    page = (comparison.folder / "compare.html").read_text("utf-8")
    assert "<script>" not in page and "&lt;script&gt;" in page
    markdown = (comparison.folder / "compare.md").read_text("utf-8")
    assert "<script>" not in markdown


def test_the_csv_has_plain_numbers(comparison: TrialComparison) -> None:
    """36 s at 2 an hour: 0.02. Not rounded, no units; empty where nothing is known."""
    write_pages(comparison)
    with open(comparison.folder / "comparison.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["finished", "finished", "stopped", "failed"]
    assert (rows[1]["value"], rows[1]["memory_bytes"]) == ("0.5", str(2**30))
    assert float(rows[0]["price"]) == pytest.approx(0.02)
    assert (rows[2]["value"], rows[2]["seconds"]) == ("", "")


def test_pictures_hold_every_scored_trial_and_only_those(comparison: TrialComparison) -> None:
    """Names stand in the SVG as text; equal points give equal bytes."""
    from retune.trials.page import list_points

    points = list_points(comparison)
    assert [point.name for point in points] == ["best", "half"]
    for panel in PANELS:
        text = draw_svg(points, comparison.metric, panel)
        assert ">best<" in text and ">half<" in text and "slow" not in text
        assert "#0101" not in text
        assert text == draw_svg(points, comparison.metric, panel)


@pytest.mark.parametrize(
    ("count", "shown"), [(None, "–"), (950, "950"), (12_345, "12.3 k"), (4_560_000, "4.56 M")]
)
def test_counts_are_shortened(count: int | None, shown: str) -> None:
    """Three digits and a unit of thousands."""
    assert show_count(count) == shown


def test_trials_without_the_figure_are_not_called_the_best(
    make_result: MakeResult, tmp_path: Path
) -> None:
    """Nobody has the figure that decides: the first line is no best one."""
    gate = {"metric": "macro_f1"}
    comparison = gather(make_result("one"), make_result("two"), folder=tmp_path, gate=gate)
    shown = [show_verdict(comparison, each) for each in comparison.trials]
    assert shown == ["not scored", "not scored"]


@pytest.mark.parametrize("reason", ["=HYPERLINK(A1)", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "plain"])
def test_no_text_of_the_csv_is_a_formula(
    make_result: MakeResult, tmp_path: Path, reason: str
) -> None:
    """A spreadsheet takes what begins with a quote as text; an empty cell and numbers stay."""
    failed = make_result("b", scores=None, cost=None, state="failed", reason=reason)
    page = render_csv(gather(make_result("a"), failed, folder=tmp_path))
    [row] = [each for each in csv.DictReader(io.StringIO(page)) if each["trial"] == "b"]
    told = [each for each in row.values() if reason in each]
    assert told == [reason if reason == "plain" else f"'{reason}"]
