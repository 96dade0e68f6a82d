"""The stage `check_rubrics`: a figure a rule, over the answers that a model has written already."""

from __future__ import annotations

from pathlib import Path

import pytest

from retune.data.schemas import CHAT_SCHEMA
from retune.data.tables import write_table
from retune.gate.pairing import pair_metric
from retune.records import SideRef
from retune.score_records import ScoreReport
from retune.scoring.outcomes import read_outcomes, write_outcomes
from retune.scoring.rubrics.score import check_rubrics
from retune.scoring.showing import label_of, show_metric
from retune.scoring.stages import RubricInputs, RubricSettings
from tests.conftest import make_workdir
from tests.making import settings_of

RULES = [{"kind": "json"}, {"kind": "length", "name": "short", "at_most": 2}]
UNASKED = None


def checked(folder: Path, answers: list[str | None]) -> ScoreReport:
    rows = [
        {
            "row_id": f"r{at}",
            "group": f"g{at}",
            "prediction": text or "",
            "reason": "prompt_too_long" if text is UNASKED else None,
        }
        for at, text in enumerate(answers)
    ]
    folder.mkdir()
    write_outcomes(folder, rows)
    written = ScoreReport(digest="a", folder=folder, metrics={}, rows=len(rows), unscored={})
    empty = dict.fromkeys(CHAT_SCHEMA.names)
    side = [empty | {"row_id": row["row_id"], "prompt": "Ask"} for row in rows]
    write_table(folder / "rows.parquet", side, CHAT_SCHEMA)
    inputs = RubricInputs(answers=written, rows=SideRef(digest="s", folder=folder))
    settings = settings_of(RubricSettings, scoring={"rubrics": RULES, "resamples": 200})
    return check_rubrics(inputs, settings, make_workdir(folder / "work"))


def test_each_rule_is_a_figure_over_the_rows_that_were_answered(tmp_path: Path) -> None:
    """Of four answers two are JSON and three have at most two words; the fifth was not asked."""
    report = checked(tmp_path / "a", ["{}", "[1, 2, 3]", "no", "x y", UNASKED])
    assert {name: (each.value, each.n) for name, each in report.metrics.items()} == {
        "rubric_json": (0.5, 4),
        "rubric_short": (0.75, 4),
    }
    # Wilson's interval of 2 of 4, to three digits: 0.150 to 0.850.
    found = report.metrics["rubric_json"]
    assert (found.low, found.high) == (pytest.approx(0.15, abs=1e-3), pytest.approx(0.85, abs=1e-3))
    assert report.unscored == {
        "rubric_json_prompt_too_long": 1,
        "rubric_short_prompt_too_long": 1,
    }
    rows = read_outcomes(report)
    assert [row["rubric_json"] for row in rows] == [1.0, 1.0, 0.0, 0.0, None]
    assert rows[1]["why"] == {"rubric_short": "3 words"}
    assert label_of("rubric_json") == "Rubric json"
    assert show_metric("rubric_json", found).startswith("50.0 % [")


def test_two_models_are_compared_rule_by_rule_on_the_same_rows(tmp_path: Path) -> None:
    """Eight rows become JSON and none stops being it: McNemar's p is 2 / 2^8."""
    ours = checked(tmp_path / "ours", ["{}"] * 9)
    theirs = checked(tmp_path / "theirs", ["{}", *["no"] * 8])
    found = pair_metric("rubric_json", ours, theirs, 200)
    assert found.difference == pytest.approx(8 / 9)
    assert (found.p_value, found.verdict) == (pytest.approx(2 / 2**8), "better")
