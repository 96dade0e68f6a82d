"""What `retune check` prints of the rows."""

from __future__ import annotations

import io

from rich.console import Console

from retune.cli.data_tables import print_findings
from retune.data.findings import ColumnFinding, Duplicates, QualityReport, SourceFinding
from retune.data.reporting import DataReport

HOSTILE = ("[/INST]", "[red]", "data/[ab].jsonl", "[/x]")


def test_names_in_brackets_are_no_markup() -> None:
    """Labels, files and columns come from outside: none is a style, and none ends one."""
    label, other, name, column = HOSTILE
    quality = QualityReport(
        sources=(
            SourceFinding(
                name=name, format="text_label", held_out=False, read=2, bad=0, kept=2, dropped={},
                columns=(
                    ColumnFinding(
                        name=column, used_as=None, filled=2, types={"text": 2}, rewords_question=1
                    ),
                ),
            ),
        ),
        read=2, kept=2, dropped={}, characters={}, labels={label: 1, other: 1}, languages={},
        duplicates=Duplicates(exact=0, folded=0, near=0, examples=()),
        conflicting_texts=0, conflicting_rows=0, unprintable={}, secrets={}, personal_data={},
        seconds={},
    )  # fmt: skip
    report = DataReport(
        name="r", made_at="now", breaches=(), limits=(), quality=quality, sides=(),
        groups_shared=0, leaks=None, audit=None, longest_tokens=None,
    )  # fmt: skip
    written = io.StringIO()
    print_findings(Console(file=written, width=200), report)
    for each in HOSTILE:
        assert each in written.getvalue()
    assert "not used" in written.getvalue()
    assert f"with rows that have it: {column} 2" in written.getvalue()
