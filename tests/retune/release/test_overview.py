"""The page of a registered model: what the ledger says, whole, and nothing that is not in it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from retune.registry.records import LedgerEntry, VersionManifest
from retune.release.overview import (
    cost_of,
    gather_overview,
    list_reigns,
    list_test_sets,
    write_overview,
)
from retune.score_records import GateDecision

START = datetime(2026, 1, 3, 4, 0, tzinfo=UTC)
METRIC = "sql_execution_match"


def entry(month: int, kind: Any, **fields: Any) -> LedgerEntry:
    """Return a line of the ledger, thirty days after the one before."""
    at = (START + timedelta(days=30 * month)).isoformat(timespec="seconds")
    value = fields.pop("value", None)
    if value is not None:
        ends = {METRIC: value, f"{METRIC}.low": value - 0.04, f"{METRIC}.high": value + 0.03}
        fields["figures"] = ends | fields.get("figures", {})
    defaults = {"model_name": "tiny", "actor": "gate", "reason": "because", "number": month + 1}
    return LedgerEntry(at=at, kind=kind, **defaults | fields)


HISTORY = (
    entry(0, "promoted", version=1, to_version=1, value=0.6, test_rows="a" * 64, alpha=0.01),
    # Lines that move nothing need not say who is champion.
    entry(1, "skipped", reason="nothing new"),
    entry(
        2,
        "promoted",
        **{"version": 2, "from_version": 1, "to_version": 2, "value": 0.7},
        **{"test_rows": "a" * 64, "alpha": 0.01, "figures": {"training_hours": 1.5}},
    ),
    entry(
        3,
        "rejected",
        **{"version": 3, "from_version": 2, "to_version": 2, "value": 0.5},
        **{"test_rows": "b" * 64, "alpha": 0.02, "reason": "slice group=x is worse"},
    ),
    entry(4, "rolled_back", from_version=2, to_version=1, actor="maria", reason="wrong answers"),
)


def manifest(**recipe: Any) -> VersionManifest:
    """Return the manifest of version 3 with parts of a recipe."""
    texts = ("made_at", "released", "base", "base_name", "recipe_file", "rows_digest", "template")
    return VersionManifest(
        model_name="tiny",
        version=3,
        recipe=recipe,
        sources={},
        sides={},
        seeds={},
        libraries={},
        lock_digest=None,
        commit=None,
        machine={},
        stages={},
        digests={},
        decision=GateDecision(digest="d", promote=False, reasons=(), comparisons=()),
        **dict.fromkeys(texts, ""),
    )


def test_reigns_follow_each_other_without_a_gap() -> None:
    """1 until 2 is promoted, 2 until it is rolled back, 1 since then; skips change nothing."""
    reigns = list_reigns(HISTORY)

    assert [each.version for each in reigns] == [1, 2, 1]
    days = [(each.since - START).days for each in reigns]
    assert days == [0, 60, 120]
    assert [each.until for each in reigns[:2]] == [each.since for each in reigns[1:]]
    assert reigns[-1].until is None


def test_a_champion_may_be_taken_away() -> None:
    """Then the last reign has an end and nobody is champion."""
    taken = entry(1, "withdrawn", from_version=1, to_version=None)

    overview = gather_overview("tiny", [], [HISTORY[0], taken])

    assert overview.champion is None
    assert overview.reigns[-1].until == START + timedelta(days=30)


def test_test_sets_wear_as_the_gate_counts() -> None:
    """A promotion spends nothing, unless it is taken back; a skip rests on no rows.

    A level of 0.01 is a share of 0.005. The promotion of 1 got its share back, that of 2 did not;
    the rejection on the second rows, at 0.02, used two shares up.
    """
    found = list_test_sets(HISTORY, error=0.01, of=2)

    assert [(each.digest[0], each.used, each.spent) for each in found] == [
        ("b", 2, 0.01),
        ("a", 1, 0.005),
    ]
    assert [each.worn_out for each in found] == [True, False]


def test_cost_is_the_lines_price_or_hours_at_the_devices_price() -> None:
    """1.5 hours at 2 an hour are 3; a price that is known is not reckoned again."""
    device = {"device": {"price_per_hour": 2.0, "currency": "BRL"}}
    line = HISTORY[2]

    assert cost_of(line, device).price == 3.0
    known = line.model_copy(update={"figures": {**line.figures, "price": 9.0}})
    assert cost_of(known, device).price == 9.0
    assert cost_of(line, {}).price is None
    assert gather_overview("tiny", [manifest(**device)], HISTORY).price == "3.00 BRL"


def test_a_training_is_paid_for_once() -> None:
    """A person's yes is a second line on the same version, with the same figures."""
    took = {"version": 3, "figures": {"training_hours": 2.0}}
    lines = (*HISTORY, entry(5, "pending", **took), entry(6, "promoted", to_version=3, **took))

    found = gather_overview("tiny", [], lines)

    assert (found.hours, found.retrains) == (3.5, 2)


def test_a_question_is_drawn_until_it_is_answered(tmp_path: Path) -> None:
    """An answered one has the same figure as its answer, and was no refusal."""
    asked = entry(5, "pending", version=4, value=0.8)
    answered = entry(6, "promoted", version=4, from_version=1, to_version=4, value=0.8)

    def last_values(*lines: LedgerEntry) -> list[float | None]:
        return [each.value for each in gather_overview("tiny", [], (*HISTORY, *lines)).points[5:]]

    assert last_values(asked) == [0.8]
    assert last_values(asked, answered) == [None, 0.8]
    page = write_overview("tiny", [], (*HISTORY, asked), tmp_path).read_text("utf-8")
    assert "waits for a person" in page


def test_the_page_says_what_the_ledger_says(tmp_path: Path) -> None:
    """Every line with its reason, the latest first; figures with intervals; the picture's marks."""
    gate = {"gate": {"decisions_per_test_set": 10, "error": 0.05}}

    page = write_overview("tiny", [manifest(**gate)], HISTORY, tmp_path / "new").read_text("utf-8")

    reasons = re.findall(r'class="why">([^<\n]+)', page)
    told = ["wrong answers", "slice group=x is worse", "because", "nothing new", "because"]
    assert reasons == told
    assert "Version 1 is champion since 2026-05-03." in page
    assert "60.0 % [56.0 %, 63.0 %]" in page
    assert "1 of 10" in page and "2 of 10" in page
    assert page.count("<svg") == 1 and "rolled back" in page


def test_an_empty_history_and_a_single_version_are_pages_too(tmp_path: Path) -> None:
    """Without a picture of nothing, and with one of a single point."""
    empty = write_overview("tiny", [], [], tmp_path / "empty").read_text("utf-8")
    assert "Nothing was decided about this model yet." in empty
    assert "<svg" not in empty

    single = write_overview("tiny", [], HISTORY[:1], tmp_path / "one").read_text("utf-8")
    assert "<svg" in single and "Version 1 is champion" in single
    failed = write_overview("tiny", [], [entry(0, "failed")], tmp_path / "failed")
    assert "no figure was decided on yet" in failed.read_text("utf-8")


def test_odd_names_stay_text(tmp_path: Path) -> None:
    """Names, reasons and addresses come from people: none of them becomes a tag or a script."""
    odd = '<script>alert(1)</script> & "x"'
    links = {"<b>": 'https://host/?"><img src=x>', "report": "javascript:alert(1)"}
    line = entry(0, "promoted", version=1, to_version=1, value=0.6, reason=odd, actor=odd)
    line = line.model_copy(update={"links": links})

    page = write_overview(odd, [], [line], tmp_path).read_text("utf-8")

    assert "<script" not in page and "<img" not in page and "javascript:" not in page
    assert page.count("&lt;script&gt;") >= 4
    assert 'href="https://host/?&#34;&gt;&lt;img src=x&gt;"' in page


def test_an_earlier_figure_is_not_drawn_on_the_scale_of_another() -> None:
    """A perplexity of 7 is no percentage: it is left out of the picture, and that is said."""
    figures = {"perplexity": 7.0, "perplexity.low": 6.8, "perplexity.high": 7.2}
    first = entry(0, "promoted", version=1, to_version=1, figures=figures)

    overview = gather_overview("tiny", [], [first, HISTORY[2]])

    assert overview.metric == METRIC
    assert [point.value for point in overview.points] == [None, 0.7]
    assert "Perplexity" in overview.notes[0] or "perplexity" in overview.notes[0]
    assert overview.lines[-1].figure == "7.000 [6.800, 7.200]"
