"""Efforts side by side: what was written and how long it took stands in the table of figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retune.cli.runs.evaluating import read_efforts
from retune.errors import ConfigError
from retune.release.comparing import ScoredCandidate, compare_models, render_comparison
from retune.release.effort import measure_effort
from retune.score_records import ModelScores
from retune.scoring.outcomes import LATENCY_FILE
from tests.retune.release.test_comparing import scores


def thinking(folder: Path, tokens: int) -> ModelScores:
    """Four answers of 10 tokens and their thoughts, half a second each."""
    found = scores(folder, 3, rows=4)
    rows = {
        f"r{at}": {
            "seconds": 0.5,
            "batch": 0,
            "tokens": tokens + at + 10,
            "thinking_tokens": tokens + at,
        }
        for at in range(4)
    }
    path = found.reports["sql"].folder / LATENCY_FILE
    path.parent.mkdir()
    path.write_text(json.dumps({"measured": {}, "rows": rows}), "utf-8")
    return found


def test_thoughts_and_answers_are_counted_apart(tmp_path: Path) -> None:
    """Thoughts of 20 to 23 tokens are 21.5 on average, answers 10."""
    found = measure_effort(thinking(tmp_path, 20), 200)
    assert {name: (each.value, each.n) for name, each in found.items()} == {
        "seconds_per_answer": (0.5, 4),
        "thinking_tokens": (21.5, 4),
        "answer_tokens": (10.0, 4),
    }
    assert found["thinking_tokens"].low is not None and found["seconds_per_answer"].low is None


def test_answers_of_before_tokens_were_counted_have_their_seconds_alone(tmp_path: Path) -> None:
    found = scores(tmp_path, 3, rows=4)
    assert measure_effort(found, 200) == {}
    path = found.reports["sql"].folder / LATENCY_FILE
    path.parent.mkdir()
    path.write_text(json.dumps({"rows": {"r0": {"seconds": 2.0, "batch": 0}}}), "utf-8")
    assert {name: each.value for name, each in measure_effort(found, 200).items()} == {
        "seconds_per_answer": 2.0
    }


def test_quality_tokens_and_seconds_stand_in_one_table(tmp_path: Path) -> None:
    candidates = [
        ScoredCandidate(f"base, effort {effort}", "base", "base", "d", "alike", found, effort)
        for effort, found in (
            ("low", thinking(tmp_path / "low", 4)),
            ("high", thinking(tmp_path / "high", 40)),
        )
    ]
    compared = compare_models(candidates, recipe="r", folder=tmp_path, resamples=200, samples=0)
    assert [each.effort for each in compared.models] == ["low", "high"]
    table = render_comparison("comparison.md", compared).partition("Comparisons")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert "base, effort low" in lines[0] and "base, effort high" in lines[0]
    named = {line.split("|")[1].split("(")[0].strip(): line for line in lines[2:]}
    assert "SQL execution match" in named
    assert "5.500" in named["Thinking tokens per answer"]
    assert "41.500" in named["Thinking tokens per answer"]
    assert "10.000" in named["Tokens per answer"]
    assert "0.500" in named["Seconds per answer"]


def test_efforts_are_read_in_their_order_and_refused_by_name() -> None:
    assert read_efforts("high, low") == ["high", "low"]
    for wrong in ("low,hgih", "low,low", ""):
        with pytest.raises(ConfigError, match="expected one or more of low, medium, high"):
            read_efforts(wrong)
