"""What `retune collect` prints in the end."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from retune.cli.collecting import show_collected
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
