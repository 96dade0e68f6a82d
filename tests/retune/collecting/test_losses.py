"""Every letter of a page is kept or left out for a reason, and pages that lose many are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retune.collecting.extracting import extract_documents
from retune.collecting.fetching.fetcher import FetchResult
from retune.collecting.losses import lost_share, name_pages
from retune.collecting.records import CollectSettings, Outcome
from retune.collecting.rows import Rows, make_rows
from retune.collecting.writing import outcomes_path, write_rows
from retune.errors import DataError


def _rows(folder: Path, pages: dict[str, str], **settings: object) -> Rows:
    for name, text in pages.items():
        (folder / name).write_text(text, "utf-8")
    chosen = CollectSettings.model_validate(settings)
    fetched = [FetchResult(url=str(folder / name)) for name in pages]
    return make_rows(extract_documents(fetched, chosen, lambda done, total: None), [], chosen)


PAGE = f"""<html><head><title>Lamps</title></head><body><nav>{"n" * 30}</nav>
<h1>Lamps</h1><p>{"a" * 100}</p><h2>Bulbs</h2><p>{"b" * 40}</p><h2>Empty</h2>
<p hidden>{"h" * 7}</p><script>{"s" * 9}</script><button>{"c" * 3}</button></body></html>"""


def test_letters_are_counted_by_the_reason_why_they_stand_in_no_row(tmp_path: Path) -> None:
    """5 of the title and 9 of the script; a body of 40 is too short, its heading has 5 more.

    All: 5 + 30 + 5 + 100 + 5 + 40 + 5 + 7 + 9 + 3 = 209. Text of its own: 209 - 30 - 14 - 7 - 3 =
    155, of which 45 + 5 are lost.
    """
    (outcome,) = _rows(tmp_path, {"a.html": PAGE}).outcomes
    assert outcome.left_out == {
        "buttons and forms": 3,
        "heading without body": 5,
        "hidden": 7,
        "navigation": 30,
        "script, style or head": 14,
        "section too short": 45,
    }
    assert (outcome.letters, outcome.lost) == (209, 50 / 155)


@pytest.mark.parametrize(
    ("rows", "left_out"),
    [
        # Headings stay with their sections; only whole pages are measured.
        ("documents", {}),
        # Both sections hold one sentence, and the listing has none.
        ("sentences", {"listing or table": 4}),
    ],
)
def test_other_rows_leave_out_other_text(
    tmp_path: Path, rows: str, left_out: dict[str, int]
) -> None:
    """A page of two sections and a listing."""
    text = f"# T\n\nOne {'a' * 90}.\n\n## U\n\nTwo.\n\n    codé\n"
    (outcome,) = _rows(tmp_path, {"a.md": text}, rows=rows).outcomes
    kept = {k: v for k, v in outcome.left_out.items() if k != "markup"}
    assert kept == left_out


def test_a_page_that_gives_nothing_has_its_letters_counted_too(tmp_path: Path) -> None:
    """60 letters of navigation; one letter outside of it is no paragraph, or too short a one."""
    (outcome,) = _rows(tmp_path, {"a.html": f"<nav>{'n' * 60}</nav><h1>T</h1>"}).outcomes
    assert (outcome.status, outcome.reason) == ("empty", "no main content")
    assert outcome.left_out == {"navigation": 60, "no main content": 1}
    assert (outcome.letters, outcome.lost) == (61, 1.0)


@pytest.mark.parametrize(
    ("letters", "left_out", "share"),
    [
        (100, {}, 0.0),
        (100, {"navigation": 100}, 0.0),
        (100, {"navigation": 60, "section too short": 10}, 0.25),
        (0, {}, 0.0),
    ],
)
def test_what_was_never_text_counts_on_neither_side(
    letters: int, left_out: dict[str, int], share: float
) -> None:
    """10 of the 40 letters that are no navigation."""
    assert lost_share(letters, left_out) == share


def _outcome(source: str, status: str, reason: str, lost: float = 0.0, letters: int = 9) -> Outcome:
    left_out = {"section too short": round(lost * letters), "navigation": 99}
    return Outcome.model_validate(
        {
            "source": source,
            "status": status,
            "reason": reason,
            "lost": lost,
            "letters": letters,
            "left_out": left_out,
            "rows": int(status == "kept"),
        }
    )


def test_pages_to_look_at_are_named_with_the_reason_and_what_to_do() -> None:
    """What loses more than half, the most letters first; then what gave nothing; then failures."""
    named = name_pages(
        [
            _outcome("failed", "failed", "HTTP 404"),
            _outcome("fine", "kept", "pairs", lost=0.5),
            _outcome("empty", "empty", "page written by scripts"),
            _outcome("little", "kept", "pairs", lost=0.6, letters=100),
            _outcome("much", "kept", "pairs", lost=0.6, letters=1000),
        ],
        most_lost=0.5,
    )
    assert [page.source for page in named] == ["much", "little", "empty", "failed"]
    assert (named[0].reason, named[0].lost) == ("section too short", 0.6)
    assert "lower --min-characters" in named[0].advice
    assert (named[2].reason, "save it from a browser" in named[2].advice) == (
        "page written by scripts",
        True,
    )


KEPT = _outcome("kept.html", "kept", "pairs")


@pytest.mark.parametrize(
    ("reasons", "allowed"),
    [
        (["no main content"], True),  # one of two is not more than half
        (["no main content", "no main content"], False),
        (["navigation page", "licence page", "navigation page"], True),
        (["HTTP 404", "no connection", "timed out"], True),
        (["extractor failed", "file cannot be read"], False),
    ],
)
def test_a_collection_most_of_whose_pages_give_nothing_is_an_error(
    tmp_path: Path, reasons: list[str], allowed: bool
) -> None:
    """Pages that were never meant to give rows, or did not come, do not count."""
    unread = {"HTTP 404", "no connection", "timed out", "extractor failed", "file cannot be read"}
    others = [
        _outcome(f"{n}.html", "failed" if reason in unread else "empty", reason)
        for n, reason in enumerate(reasons)
    ]
    made = Rows([{"answer": "x"}], [KEPT, *others])
    out = tmp_path / "pages.jsonl"
    if allowed:
        collected = write_rows(made, out, CollectSettings(), force=False)
        assert [page.source for page in collected.named] == [each.source for each in others]
        return
    with pytest.raises(DataError, match=r"2 of the 3 pages that were read gave no pairs") as caught:
        write_rows(made, out, CollectSettings(), force=False)
    assert caught.value.exit_code == 3
    assert "0.html" in str(caught.value)
    assert "more than the 50% that --most-empty allows" in str(caught.value)
    assert not out.exists()
    assert len(outcomes_path(out).read_text().splitlines()) == 3
    write_rows(made, out, CollectSettings(most_empty=1.0), force=False)
    assert out.exists()


def test_outcomes_say_of_every_page_what_it_lost(tmp_path: Path) -> None:
    """As JSON, beside the rows; the sum over all pages is given back."""
    made = _rows(tmp_path, {"a.html": PAGE, "b.html": PAGE.replace("a" * 100, "d" * 100)})
    collected = write_rows(made, tmp_path / "rows.jsonl", CollectSettings(), force=False)
    lines = (tmp_path / "rows.jsonl.outcomes.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["left_out"]["navigation"] for line in lines] == [30, 30]
    assert collected.left_out["navigation"] == 60
    assert collected.named == ()


def test_only_so_many_pages_are_named(tmp_path: Path) -> None:
    """Twenty, and how many more there are."""
    failed = [_outcome(str(n), "failed", "HTTP 404") for n in range(23)]
    made = Rows([{"answer": "x"}], [KEPT, *failed])
    collected = write_rows(made, tmp_path / "rows.jsonl", CollectSettings(), force=False)
    assert (len(collected.named), collected.unnamed) == (20, 3)
