"""What `retune collect` prints in the end."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from retune.cli.runs.collecting import show_collected
from retune.collecting.losses import NamedPage
from retune.collecting.writing import Collected


def test_brackets_in_a_path_are_no_markup() -> None:
    """Whoever copies the path gets the file's name."""
    collected = Collected(
        out=Path("[red]pages.jsonl"), outcomes=Path("[red]pages.jsonl.outcomes.jsonl"), rows=1,
        pages=1, kept=1, reused=0, reasons=(("kept", "pairs", 1),), dropped={},
    )  # fmt: skip
    written = io.StringIO()
    show_collected(Console(file=written, width=100), collected)
    assert "Rows:     [red]pages.jsonl\n" in written.getvalue()
    assert "Outcomes: [red]pages.jsonl.outcomes.jsonl\n" in written.getvalue()


def test_pages_to_look_at_are_printed_with_the_reason_and_what_to_do() -> None:
    """Letters of the text first, what never was text apart; names of pages are no markup."""
    collected = Collected(
        out=Path("o"), outcomes=Path("p"), rows=1, pages=30, kept=1, reused=0,
        reasons=(("kept", "pairs", 1),), dropped={"section too short": 3},
        left_out={"navigation": 4000, "section too short": 1200, "footnotes": 5},
        named=(
            NamedPage(source="[b]a.html", status="kept", reason="section too short", lost=0.625,
                      advice="lower --min-characters"),
            NamedPage(source="b.html", status="empty", reason="page of frames",
                      detail="its text lies in c.html", advice="collect the pages in its frames"),
        ),
        unnamed=7,
    )  # fmt: skip
    written = io.StringIO()
    show_collected(Console(file=written, width=200), collected)
    lines = written.getvalue().splitlines()
    assert "  letters in no row: section too short 1,200; footnotes 5" in lines
    assert "  not counted as text: navigation 4,000" in lines
    place = lines.index("Pages to look at:")
    assert lines[place + 1 : place + 6] == [
        "  [b]a.html",
        "    loses 62% of its text, most of it: section too short (lower --min-characters)",
        "  b.html",
        "    page of frames (its text lies in c.html; collect the pages in its frames)",
        "  and 7 more; the outcomes name all of them.",
    ]
