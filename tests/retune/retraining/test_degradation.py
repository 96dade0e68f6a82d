"""One model on two sets of rows: the difference by hand and by others' figures, and its trigger."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retune.retraining.degradation import judge_degradation, judge_no_newer_rows
from retune.retraining.two_samples import Sample, compare_samples, newcombe_interval
from retune.score_records import ScoreReport
from retune.scoring.uncertainty.resampling import bits_of_ratio, ratio_of_sums


def make_sample(values: list[float], groups: list[str | None] | None = None) -> Sample:
    table = np.column_stack([values, np.ones(len(values))])
    return Sample(table, groups or [None] * len(values))


def test_newcombe_agrees_with_his_table() -> None:
    """Newcombe (1998), table II, method 10: 56/70 - 48/80, and no yes at all, 0/10 - 0/10."""
    assert newcombe_interval(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert newcombe_interval(0, 10, 0, 10) == pytest.approx((-0.2775, 0.2775), abs=5e-5)


def test_the_interval_of_means_is_that_of_normal_theory_where_rows_are_many() -> None:
    """1.96 sqrt(s1^2 / n1 + s2^2 / n2) on each side, within a twentieth for the draws.

    Drawn by one seed, sets of one size would rise and fall together: too narrow by far.
    """
    generator = np.random.default_rng(2)
    sides = [generator.normal(0.0, spread, 800) for spread in (1.0, 2.0)]
    found = compare_samples(
        *(make_sample(side.tolist()) for side in sides), ratio_of_sums, resamples=10_000
    )
    half = 1.96 * math.sqrt(sum(side.var() / 800 for side in sides))
    difference = sides[1].mean() - sides[0].mean()
    assert found.newer - found.older == pytest.approx(difference)
    assert found.low == pytest.approx(difference - half, abs=half / 20)
    assert found.high == pytest.approx(difference + half, abs=half / 20)


def test_rows_that_all_agree_are_no_certainty() -> None:
    """Ten of ten then, none of ten now: the interval is Newcombe's and has a width."""
    found = compare_samples(make_sample([1.0] * 10), make_sample([0.0] * 10), ratio_of_sums, 200)
    assert (found.older, found.newer) == (1.0, 0.0)
    assert found.low == -1.0 and found.high == pytest.approx(-0.6075, abs=5e-4)


def test_groups_widen_the_interval() -> None:
    """Eight databases whose rows agree are eight rows, not eighty."""
    values = [float(at % 2) for at in range(8) for _ in range(10)]
    groups: list[str | None] = [f"db{at}" for at in range(8) for _ in range(10)]
    rows = compare_samples(make_sample(values), make_sample(values), ratio_of_sums, 2000)
    grouped = compare_samples(
        make_sample(values, groups), make_sample(values, groups), ratio_of_sums, 2000
    )
    assert grouped.high - grouped.low > 2 * (rows.high - rows.low)


def write_report(folder: Path, rows: list[dict[str, Any]]) -> ScoreReport:
    folder.mkdir(parents=True)
    lines = [{"row_id": f"r{at}", "group": None, **row} for at, row in enumerate(rows)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ScoreReport(digest="d", folder=folder, metrics={}, rows=len(rows), unscored={})


def judge(folder: Path, metric: str, *sides: list[dict[str, Any]], **changes: Any) -> Any:
    older, newer = (write_report(folder / str(at), side) for at, side in enumerate(sides))
    return judge_degradation(
        metric, older, newer, **{"loss": 0.0, "resamples": 1000, "asked_then": None, **changes}
    )


def match(right: int, rows: int) -> list[dict[str, Any]]:
    return [{"sql_execution_match": at < right} for at in range(rows)]


@pytest.mark.parametrize(
    ("older", "newer", "loss", "fires"),
    [
        ((160, 200), (80, 200), 0.0, True),  # 80 % then, 40 % now
        ((160, 200), (80, 200), 0.2, True),  # -31 points at best
        ((160, 200), (80, 200), 0.35, False),  # worse, and not surely by so much
        ((160, 200), (150, 200), 0.0, False),  # 5 points are not shown
        ((80, 200), (160, 200), 0.0, False),  # better
    ],
)
def test_it_fires_where_the_whole_interval_is_worse_than_the_loss(
    tmp_path: Path, older: tuple[int, int], newer: tuple[int, int], loss: float, fires: bool
) -> None:
    """A difference that is only not known is none."""
    found = judge(tmp_path, "sql_execution_match", match(*older), match(*newer), loss=loss)
    assert found.trigger == "degraded" and found.fires == fires
    assert found.figures["sql_execution_match.older"] == older[0] / older[1]
    assert found.figures["sql_execution_match.newer"] == newer[0] / newer[1]


def test_the_reason_has_both_figures_and_the_interval(tmp_path: Path) -> None:
    """In words that stand by themselves; the interval is that of 80/200 - 160/200."""
    found = judge(tmp_path, "sql_execution_match", match(160, 200), match(80, 200), loss=0.2)
    low, high = (100 * found.figures[f"sql_execution_match.{end}"] for end in ("low", "high"))
    assert found.reason == (
        "SQL execution match is 40.0 % on 200 newer rows and 80.0 % on the 200 that promoted the "
        f"champion; difference -40.0 points, 95 % interval {low:.1f} points to {high:.1f} points:"
        " it is shown to be worse by more than 20.0 points"
    )


def test_lower_may_be_better(tmp_path: Path) -> None:
    """Perplexity that rose: exp(2) then, exp(2.5) now, over rows of ten tokens each."""

    def losses(mean: float) -> list[dict[str, Any]]:
        return [
            {"nll_sum_nats": 10 * (mean + (at % 5 - 2) / 10), "tokens": 10} for at in range(120)
        ]

    found = judge(tmp_path / "rose", "perplexity", losses(2.0), losses(2.5))
    assert found.fires and found.figures["perplexity.newer"] == pytest.approx(math.exp(2.5))
    assert not judge(tmp_path / "fell", "perplexity", losses(2.5), losses(2.0)).fires


def test_classes_are_compared_by_macro_f1(tmp_path: Path) -> None:
    """All right then; now every second b is taken for a: F1 of a 80/100, of b 2/3.

    a: 40 right of 40 gold and 60 named, 80/100 = 0.8; b: 20 right of 40 and 20, 40/60.
    """

    def rows(wrong: int) -> list[dict[str, Any]]:
        golds = ["a"] * 40 + ["b"] * 40
        named = ["a"] * (40 + wrong) + ["b"] * (40 - wrong)
        pairs = zip(golds, named, strict=True)
        return [{"gold": g, "predicted": p, "accuracy": g == p} for g, p in pairs]

    found = judge(tmp_path, "macro_f1", rows(0), rows(20))
    assert found.fires
    assert found.figures["macro_f1.newer"] == pytest.approx((0.8 + 2 / 3) / 2)


def test_unscored_rows_are_in_neither_figure(tmp_path: Path) -> None:
    """None is no zero; rows that the champion was not promoted on are left out likewise."""
    newer = [*match(10, 10), *[{"sql_execution_match": None}] * 5]
    found = judge(
        tmp_path, "sql_execution_match", match(6, 12), newer, asked_then={f"r{n}" for n in range(8)}
    )
    assert found.figures["older_rows"] == 8 and found.figures["newer_rows"] == 10
    assert found.figures["sql_execution_match.older"] == 6 / 8
    assert found.figures["sql_execution_match.newer"] == 1.0


def test_few_groups_show_nothing(tmp_path: Path) -> None:
    """Fifty rows of five databases: it says so, and does not fire."""
    older = [{**row, "group": f"db{at % 5}"} for at, row in enumerate(match(50, 50))]
    found = judge(tmp_path, "sql_execution_match", older, match(0, 50))
    assert not found.fires
    assert found.reason.endswith("are 5 independent groups, and fewer than 6 show nothing")
    assert not judge_no_newer_rows(12).fires


def test_equal_models_are_called_worse_in_a_fortieth_at_most() -> None:
    """A hundred pairs of sets of one population, of sixty rows in twenty groups each."""
    generator = np.random.default_rng(9)
    worse = 0
    for _ in range(100):
        sides = []
        for _ in range(2):
            rates = generator.beta(2, 2, 20).repeat(3)
            values = (generator.random(60) < rates).astype(float).tolist()
            sides.append(make_sample(values, [f"g{at // 3}" for at in range(60)]))
        worse += compare_samples(*sides, ratio_of_sums, resamples=400).high < 0.0
    # 2.5 of 100 are expected; 8 or more are seen in one of two hundred such trials.
    assert worse < 8


def test_bits_are_a_ratio_of_two_columns() -> None:
    """7 nats over 7 bytes are 1 / ln 2 bits per byte."""
    sample = Sample(np.array([[3.0, 5.0], [4.0, 2.0]]), [None, None])
    found = compare_samples(sample, sample, bits_of_ratio, 100)
    assert found.older == found.newer == pytest.approx(1 / math.log(2))
