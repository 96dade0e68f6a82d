"""Results as trials leave them, with real reports over ten rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from retune.score_records import Metric, ModelScores, ScoreReport
from retune.scoring.outcomes import write_outcomes
from retune.trials.results import Cost, TrialResult

MakeResult = Callable[..., TrialResult]


def make_report(folder: Path, right: Sequence[bool], metrics: dict[str, Metric]) -> ScoreReport:
    """Write a report whose rows were answered rightly or not."""
    folder.mkdir(parents=True)
    rows = [
        {
            "row_id": f"row{place}",
            "group": None,
            "sql_execution_match": each,
            "nll_sum_nats": 2.0,
            "tokens": 4,
        }
        for place, each in enumerate(right)
    ]
    write_outcomes(folder, rows)
    return ScoreReport(
        digest=str(folder), folder=folder, metrics=metrics, rows=len(rows), unscored={}
    )


@pytest.fixture
def make_result(tmp_path: Path) -> MakeResult:
    """Return a maker of finished trials: name, rows that were right, and what it cost."""

    def make(name: str, right: Sequence[bool] = (True,) * 10, **changes: Any) -> TrialResult:
        share = sum(right) / len(right)
        match = Metric(value=share, low=max(0, share - 0.2), high=min(1, share + 0.2), n=len(right))
        perplexity = Metric(value=2.5, low=2.0, high=3.0, n=len(right))
        scores = ModelScores.of(
            {
                "perplexity": make_report(
                    tmp_path / name / "perplexity", right, {"perplexity": perplexity}
                ),
                "sql": make_report(tmp_path / name / "sql", right, {"sql_execution_match": match}),
            }
        )
        result = TrialResult(
            name=name,
            overrides=(f"method={{kind: {name}}}",),
            state="finished",
            method=name,
            learning_rate=0.001,
            quantization="none",
            computed_at="2026-01-02T03:04:05",
            trainable_parameters=1000,
            total_parameters=100_000,
            steps=20,
            cost=Cost(
                seconds=36.0,
                estimated=False,
                memory_bytes=2**30,
                peak_bytes=2**31,
                tokens=12_345,
                device="cpu",
            ),
            validation_loss=1.25,
            scores=scores,
            training_key="key",
        )
        return result.model_copy(update=changes)

    return make
