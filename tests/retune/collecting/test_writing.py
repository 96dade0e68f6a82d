"""Whole files or none, and a message where there is nothing to write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retune.collecting.records import CollectSettings, Outcome
from retune.collecting.rows import Rows
from retune.collecting.writing import outcomes_path, refuse_clobber, write_rows
from retune.errors import ConfigError, DataError

SETTINGS = CollectSettings()
KEPT = Outcome(source="a", status="kept", reason="pairs", rows=1, dropped={"section too short": 2})


def _failed(source: str, reason: str, detail: str = "") -> Outcome:
    return Outcome(source=source, status="failed", reason=reason, detail=detail)


def test_rows_and_outcomes_lie_side_by_side(tmp_path: Path) -> None:
    """Accents stay letters; a page without rows stands in the outcomes; counts are given back."""
    out = tmp_path / "new" / "pages.jsonl"
    made = Rows([{"answer": "ação"}], [KEPT, _failed("b", "HTTP 404"), _failed("c", "HTTP 404")])
    collected = write_rows(made, out, SETTINGS, force=False)
    assert out.read_bytes() == '{"answer": "ação"}\n'.encode()
    outcomes = [json.loads(line) for line in outcomes_path(out).read_text().splitlines()]
    assert [each["reason"] for each in outcomes] == ["pairs", "HTTP 404", "HTTP 404"]
    assert collected.reasons == (("kept", "pairs", 1), ("failed", "HTTP 404", 2))
    assert (collected.rows, collected.pages, collected.kept) == (1, 3, 1)
    assert collected.dropped == {"section too short": 2}
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "pages.jsonl",
        "pages.jsonl.outcomes.jsonl",
    ]


def test_an_earlier_file_is_not_written_over_unasked(tmp_path: Path) -> None:
    """It stays as it is; with force it goes."""
    out = tmp_path / "pages.jsonl"
    out.write_text("old")
    with pytest.raises(ConfigError, match="--force"):
        write_rows(Rows([{}], [KEPT]), out, SETTINGS, force=False)
    assert out.read_text() == "old"
    write_rows(Rows([{}], [KEPT]), out, SETTINGS, force=True)
    assert out.read_text() == "{}\n"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """Not even with force."""
    with pytest.raises(ConfigError, match="is a folder"):
        refuse_clobber(tmp_path, force=True)


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        (
            [_failed("a", "no connection", "no such host"), _failed("b", "no connection")],
            r"None of the 2 pages could be reached: no connection \(no such host\)\. Check the "
            "network",
        ),
        (
            [_failed("a", "HTTP 404"), _failed("b", "HTTP 404"), _failed("c", "no connection")],
            "3 pages gave no pairs: HTTP 404 2, no connection 1. Check the addresses",
        ),
        (
            [Outcome(source="a", status="empty", reason="navigation page")],
            "1 pages gave no pairs: navigation page 1. Give pages with articles",
        ),
        (
            [Outcome(source="a", status="empty", reason="x", dropped={"section too short": 4})],
            "Sections need 80 characters: lower --min-characters",
        ),
    ],
)
def test_no_row_is_an_error_that_says_why(
    tmp_path: Path, outcomes: list[Outcome], message: str
) -> None:
    """With counts by reason and what to do; the outcomes are there, the rows' file is not."""
    out = tmp_path / "pages.jsonl"
    with pytest.raises(DataError, match=message):
        write_rows(Rows([], outcomes), out, SETTINGS, force=False)
    assert not out.exists()
    assert len(outcomes_path(out).read_text().splitlines()) == len(outcomes)
