"""Scoring on the held-out side: reports that hold what they say."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retune.data.tables import read_rows
from retune.errors import ScoringError
from retune.modeling.loading import SLOT
from retune.records import BaseRef, ScoreReport, SideRef
from retune.requests import ScoreInputs, ScoreSection
from retune.scoring import held_out as held_out_module
from retune.scoring.held_out import score_generated_sql, score_perplexity
from retune.scoring.outcomes import read_outcomes
from retune.stage import Workdir
from tests.making import make_workdir, section_of


def section(batch_size: int = 4) -> ScoreSection:
    scoring = {"max_new_tokens": 4, "resamples": 100, "runtime": {"batch_size": batch_size}}
    found: ScoreSection = section_of(ScoreSection, scoring=scoring)
    return found


def test_perplexity_is_that_of_its_rows(base: BaseRef, held_out: SideRef, work: Workdir) -> None:
    """exp(sum of NLL / sum of tokens) over the file of outcomes, end tokens included."""
    report = score_perplexity(ScoreInputs(model=base.as_scored(), rows=held_out), section(), work)
    rows, outcomes = read_rows(held_out.folder / "rows.parquet"), read_outcomes(report)
    assert [one["row_id"] for one in outcomes] == [row["row_id"] for row in rows]
    assert [one["tokens"] for one in outcomes] == [len(row["answer_ids"]) for row in rows]
    nll = math.fsum(one["nll_sum_nats"] for one in outcomes)
    by_hand = math.exp(nll / sum(one["tokens"] for one in outcomes))
    found = report.metrics["perplexity"]
    assert found.value == pytest.approx(by_hand, rel=1e-12)
    assert (found.n, report.rows, report.unscored) == (len(rows), len(rows), {})


def test_the_batch_size_changes_no_perplexity(
    base: BaseRef, held_out: SideRef, tmp_path: Path
) -> None:
    """It is a runtime field: not part of the key, so it must not be part of the result."""
    inputs = ScoreInputs(model=base.as_scored(), rows=held_out)
    values = [
        score_perplexity(inputs, section(size), make_workdir(tmp_path / str(size)))
        .metrics["perplexity"]
        .value
        for size in (1, 3, 8)
    ]
    assert values == pytest.approx([values[0]] * 3, rel=1e-6)


def score_answers(
    held_out: SideRef,
    base: BaseRef,
    work: Workdir,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[dict[str, Any]], str],
) -> ScoreReport:
    """Score a model that gives chosen answers."""
    rows = read_rows(held_out.folder / "rows.parquet")
    monkeypatch.setattr(
        held_out_module, "generate_answers", lambda *_, **__: [answer(row) for row in rows]
    )
    inputs = ScoreInputs(model=base.as_scored(), rows=held_out)
    return score_generated_sql(inputs, section(), work)


def test_the_reference_answers_score_all(
    held_out: SideRef, base: BaseRef, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the rows' own databases each reference gives its own result."""
    report = score_answers(held_out, base, work, monkeypatch, lambda row: row["answer"] + ";")
    for name in ("sql_execution_match", "sql_exact_match", "sql_executable_rate"):
        assert (report.metrics[name].value, report.metrics[name].n) == (1.0, report.rows)
    assert report.unscored == {}


def test_an_answer_that_is_no_sql_is_wrong_and_not_unscored(
    held_out: SideRef, base: BaseRef, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that cannot write SQL scores zero; only a broken reference has no score."""
    report = score_answers(held_out, base, work, monkeypatch, lambda row: "não sei")
    assert report.metrics["sql_execution_match"].value == 0.0
    assert report.unscored == {}
    outcomes = read_outcomes(report)
    assert {one["sql_execution_match"] for one in outcomes} == {False}
    assert all(one["reason"] for one in outcomes)


def test_a_random_model_is_scored_from_end_to_end(
    held_out: SideRef, base: BaseRef, work: Workdir
) -> None:
    """It writes no SQL, and every row says what it wrote."""
    inputs = ScoreInputs(model=base.as_scored(), rows=held_out)
    report = score_generated_sql(inputs, section(), work)
    assert report.metrics["sql_execution_match"].value == 0.0
    assert all("prediction" in one for one in read_outcomes(report))


def test_a_model_with_another_tokenizer_is_refused(
    held_out: SideRef, base: BaseRef, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows' ids would mean other words to it."""
    SLOT.clear()
    loaded = SLOT.get(base.as_scored())
    other = loaded.tokenizer.__class__.from_pretrained(base.folder)
    other.add_tokens(["SELECT", "de", "CREATE"])
    object.__setattr__(loaded, "tokenizer", other)
    inputs = ScoreInputs(model=base.as_scored(), rows=held_out)
    try:
        with pytest.raises(ScoringError, match="has another tokenizer than the base"):
            score_perplexity(inputs, section(), work)
    finally:
        SLOT.clear()
