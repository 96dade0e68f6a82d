"""The gate: shown to be better, and nothing worse."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from retune.digests import digest_folder
from retune.errors import ScoringError
from retune.gate.deciding import decide
from retune.gate.pairing import pair_metric
from retune.gate.stages import DecideInputs, DecideSettings
from retune.score_records import GateDecision, Metric, ModelScores, ScoreReport
from retune.scoring.outcomes import read_outcomes, write_outcomes
from retune.spine.stage import Workdir
from tests.making import settings_of

Outcomes = Sequence[bool | None]
MakeScores = Callable[..., ModelScores]


def yes(count: int, of: int = 40) -> list[bool]:
    """The first `count` of `of` rows are right."""
    return [at < count for at in range(of)]


@pytest.fixture
def scores(tmp_path: Path) -> MakeScores:
    """Write a model's outcome files by hand: rows of their own group, NLL in nats of one token."""

    def report(name: str, rows: list[dict[str, Any]], metrics: dict[str, Metric]) -> ScoreReport:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}-{name}"
        folder.mkdir()
        write_outcomes(folder, rows)
        return ScoreReport(
            digest=digest_folder(folder),
            folder=folder,
            metrics=metrics,
            rows=len(rows),
            unscored={},
        )

    def rate(values: Outcomes) -> Metric:
        scored = [value for value in values if value is not None]
        share = sum(scored) / len(scored) if scored else None
        return Metric(value=share, low=None, high=None, n=len(scored))

    def make(
        execution: Outcomes,
        *,
        exact: Outcomes | None = None,
        nll: Sequence[float] = (1.0,) * 40,
        probes: Outcomes | None = None,
        names: str = "r",
    ) -> ModelScores:
        exact = execution if exact is None else exact
        sql = report(
            "sql",
            [
                {
                    "row_id": f"{names}{at}",
                    "group": f"g{at}",
                    "sql_execution_match": one,
                    "sql_exact_match": other,
                }
                for at, (one, other) in enumerate(zip(execution, exact, strict=True))
            ],
            {"sql_execution_match": rate(execution), "sql_exact_match": rate(exact)},
        )
        surprise = math.exp(math.fsum(nll) / len(nll))
        perplexity = report(
            "perplexity",
            [
                {"row_id": f"r{at}", "group": f"g{at}", "nll_sum_nats": one, "tokens": 1}
                for at, one in enumerate(nll)
            ],
            {"perplexity": Metric(value=surprise, low=None, high=None, n=len(nll))},
        )
        probed = probes and report(
            "probes",
            [
                {"row_id": f"p{at}", "group": "all", "probe_pass_rate": one}
                for at, one in enumerate(probes)
            ],
            {"probe_pass_rate": rate(probes)},
        )
        return ModelScores.of({"perplexity": perplexity, "sql": sql, "probes": probed or None})

    return make


def gate(
    work: Workdir,
    challenger: ModelScores,
    base: ModelScores,
    champion: ModelScores | None = None,
    **config: Any,
) -> GateDecision:
    inputs = DecideInputs(challenger=challenger, base=base, champion=champion)
    section = settings_of(DecideSettings, gate=config, scoring={"resamples": 500})
    return decide(inputs, section, work)


def test_figures_of_two_forms_are_never_compared(scores: MakeScores, work: Workdir) -> None:
    """A base in 4 bits that is far worse proves nothing of a challenger in 16, nor a champion."""
    challenger, base = scores(yes(30)), scores(yes(5))
    assert gate(work, challenger, base).promote
    other = base.model_copy(update={"form": "nf4"})
    decision = gate(work, challenger, other)
    assert not decision.promote and not decision.comparisons
    assert decision.reasons == (
        "SQL execution match could not be compared with the base, which was scored as nf4, and "
        "the challenger as plain",
    )
    champion = gate(work, challenger, base, other)
    assert {each.against for each in champion.comparisons} == {"base"}
    assert not champion.promote


def test_shown_to_be_better_is_promoted(scores: MakeScores, work: Workdir) -> None:
    """20 of 40 rows won and none lost.

    Agresti and Min add half a row to each of four cells: (20.5 - 0.5) / 42 = 0.4762, half width
    1.96 * sqrt(21 - 20^2 / 42) / 42 = 0.1581, so that the lower end is 0.318.
    """
    found = gate(work, scores(yes(20)), scores(yes(0)))
    assert found.promote
    [better] = [one for one in found.comparisons if one.metric == "sql_execution_match"]
    assert better.difference == pytest.approx(0.5)
    assert better.low == pytest.approx(0.318, abs=1e-3)
    assert better.p_value == pytest.approx(2 * 0.5**20)
    assert (better.verdict, better.n) == ("better", 40)
    assert found.reasons == (
        f"SQL execution match +50.0 points [+31.8, +{100 * better.high:.1f}] against the base on "
        "40 rows",
    )


def test_undecided_is_no_yes(scores: MakeScores, work: Workdir) -> None:
    """Three rows won and one lost: McNemar's p is 2 * (1 + 4) / 16 = 0.625."""
    base = [at in (0, 1) for at in range(40)]
    tuned = [at in (0, 2, 3, 4) for at in range(40)]
    found = gate(work, scores(tuned), scores(base))
    assert not found.promote
    [compared] = [one for one in found.comparisons if one.metric == "sql_execution_match"]
    assert (compared.p_value, compared.verdict) == (0.625, "undecided")
    assert found.reasons[0].startswith(
        "not shown to be better than the base by more than gate.min_gain 0: "
        "SQL execution match +5.0 points"
    )


def test_the_same_model_is_not_better(scores: MakeScores, work: Workdir) -> None:
    """No row differs, and that is no gain."""
    found = gate(work, scores(yes(20)), scores(yes(20)))
    assert not found.promote


def test_worse_is_refused(scores: MakeScores, work: Workdir) -> None:
    """Both SQL metrics are told, since both got worse."""
    found = gate(work, scores(yes(0)), scores(yes(20)))
    assert not found.promote
    assert len(found.reasons) == 2
    assert "SQL execution match −50.0 points" in found.reasons[0]
    assert found.reasons[1].startswith("worse than the base: SQL exact match −50.0 points")


def test_a_gain_has_to_exceed_min_gain(scores: MakeScores, work: Workdir) -> None:
    """It is the interval's lower end, 0.318, that counts, not the difference of 0.5."""
    tuned, base = scores(yes(20)), scores(yes(0))
    assert gate(work, tuned, base, min_gain=0.31).promote
    assert not gate(work, tuned, base, min_gain=0.33).promote


def test_a_small_loss_can_be_accepted(scores: MakeScores, work: Workdir) -> None:
    """With min_gain below zero the same model passes.

    Without a win or loss the interval is 0 +- 1.96 * sqrt(0.5 + 0.5) / 42 = 0.047.
    """
    same = scores(yes(20))
    assert gate(work, same, scores(yes(20)), min_gain=-0.05).promote
    assert not gate(work, same, scores(yes(20)), min_gain=-0.04).promote


def test_under_min_value_is_refused(scores: MakeScores, work: Workdir) -> None:
    """Better than a bad base is not good enough: 20 of 40 is 0.5."""
    found = gate(work, scores(yes(20)), scores(yes(0)), min_value=0.6)
    assert found.reasons == ("SQL execution match 50.0 % is under gate.min_value 0.6",)
    assert not found.promote
    assert gate(work, scores(yes(20)), scores(yes(0)), min_value=0.5).promote


def test_too_many_unscored_rows_are_refused(scores: MakeScores, work: Workdir) -> None:
    """4 of 40 rows are 10 %, and nothing may be promoted on what could be scored by chance."""
    tuned = [*yes(20, 36), None, None, None, None]
    found = gate(work, scores(tuned), scores([*yes(0, 36), None, None, None, None]))
    assert found.reasons == (
        "10.0% of the rows have no SQL execution match; gate.max_unscored_fraction allows 5.0%",
    )
    allowed = gate(work, scores(tuned), scores(yes(0)), max_unscored_fraction=0.1)
    assert allowed.promote
    assert allowed.comparisons[0].n == 36


def test_rows_are_counted_for_the_gates_own_metric(scores: MakeScores, work: Workdir) -> None:
    """All rows could be run, but half of the references have no canonical form."""
    exact = [True] * 20 + [None] * 20
    found = gate(
        work,
        scores(yes(40), exact=exact),
        scores(yes(0), exact=[False] * 20 + [None] * 20),
        metric="sql_exact_match",
    )
    assert not found.promote
    assert found.reasons[0].startswith("50.0% of the rows have no SQL exact match")


def test_a_metric_without_any_score_is_refused(scores: MakeScores, work: Workdir) -> None:
    """Neither better nor worse: there is nothing to say."""
    nothing: list[bool | None] = [None] * 40
    found = gate(work, scores(nothing), scores(nothing), max_unscored_fraction=1.0)
    assert not found.promote
    assert "SQL execution match could not be scored on any row" in found.reasons
    assert any("could not be compared with the base" in reason for reason in found.reasons)


def test_probes_under_their_bound_are_refused(scores: MakeScores, work: Workdir) -> None:
    """3 of 4 probes are 0.75."""
    tuned = scores(yes(20), probes=yes(3, 4))
    base = scores(yes(0), probes=yes(3, 4))
    found = gate(work, tuned, base, min_probe_pass_rate=0.9)
    assert found.reasons == ("Probe pass rate is 75.0 %, under gate.min_probe_pass_rate 0.9",)
    assert gate(work, tuned, base, min_probe_pass_rate=0.75).promote


def test_another_metric_may_not_get_worse(scores: MakeScores, work: Workdir) -> None:
    """SQL is better, but 20 probes that the base passed fail."""
    tuned = scores(yes(20), probes=yes(0, 20))
    found = gate(work, tuned, scores(yes(0), probes=yes(20, 20)))
    assert found.reasons[0].startswith("worse than the base: Probe pass rate −100.0 points")
    assert not found.promote


@pytest.mark.parametrize(("unscored", "promoted"), [(1, True), (2, False), (20, False)])
def test_another_metric_may_not_be_left_unscored(
    scores: MakeScores, work: Workdir, unscored: int, promoted: bool
) -> None:
    """Cases that do not fit into the challenger's context are in no comparison, and no pass.

    1 of 20 is the 5 % of `gate.max_unscored_fraction`; where the base has none either, it is not
    the challenger's loss.
    """
    probes = [None] * unscored + [True] * (20 - unscored)
    tuned = scores(yes(20), probes=probes)
    found = gate(work, tuned, scores(yes(0), probes=yes(20, 20)))
    assert found.promote is promoted
    if not promoted:
        assert found.reasons == (
            f"Probe pass rate was scored {20 - unscored} times, and 20 times of the base; "
            "gate.max_unscored_fraction allows 5.0% fewer",
        )
    assert gate(work, tuned, scores(yes(0), probes=probes)).promote


def test_the_champion_has_to_be_beaten_too(scores: MakeScores, work: Workdir) -> None:
    """Better than the base, and the same as the model that is in production."""
    tuned, base = scores(yes(20)), scores(yes(0))
    found = gate(work, tuned, base, champion=scores(yes(20)))
    assert not found.promote
    [reason] = found.reasons
    assert reason.startswith("not shown to be better than the champion")
    assert gate(work, tuned, base, champion=scores(yes(2))).promote


def test_lower_perplexity_is_better(scores: MakeScores, work: Workdir) -> None:
    """NLL of 1 nat a token against 2: e - e^2 = -4.67, the same on every row."""
    low, high = scores(yes(20)), scores(yes(20), nll=(2.0,) * 40)
    found = gate(work, low, high, metric="perplexity")
    assert found.promote
    [compared] = [one for one in found.comparisons if one.metric == "perplexity"]
    assert compared.difference == pytest.approx(math.e - math.e**2)
    assert compared.verdict == "better"
    assert gate(work, low, high, metric="perplexity", min_gain=4.6).promote
    assert not gate(work, low, high, metric="perplexity", min_gain=4.7).promote


def test_higher_perplexity_is_worse(scores: MakeScores, work: Workdir) -> None:
    """As the gate's own metric, and beside another one."""
    low, high = scores(yes(0)), scores(yes(20), nll=(2.0,) * 40)
    assert not gate(work, high, low, metric="perplexity").promote
    found = gate(work, high, low)
    assert found.reasons[0].startswith("worse than the base: Perplexity +4.67")


def test_other_rows_are_refused(scores: MakeScores, work: Workdir) -> None:
    """A paired interval needs pairs."""
    with pytest.raises(ScoringError, match="were not scored on the same rows"):
        gate(work, scores(yes(20)), scores(yes(0), names="other"))


def test_the_digest_is_that_of_the_decision(scores: MakeScores, work: Workdir) -> None:
    """What is registered depends on what was decided, and not on when."""
    tuned, base = scores(yes(20)), scores(yes(0))
    first = gate(work, tuned, base)
    assert gate(work, tuned, base) == first
    assert gate(work, tuned, base, min_gain=0.9).digest != first.digest


def test_an_interval_clear_of_zero_is_no_yes_where_the_test_is_undecided(
    scores: MakeScores, work: Workdir
) -> None:
    """5 of 20 rows won, none lost: McNemar's p is 2 / 2^5 = 0.0625, but the interval is above 0.

    Agresti and Min: centre (5.5 - 0.5) / 22 = 0.227, half 1.96 * sqrt(6 - 25 / 22) / 22 = 0.196.
    """
    nll = (1.0,) * 20
    found = gate(work, scores(yes(5, 20), nll=nll), scores(yes(0, 20), nll=nll))
    [compared] = [one for one in found.comparisons if one.metric == "sql_execution_match"]
    assert compared.low is not None and compared.low > 0
    assert (compared.p_value, compared.verdict) == (0.0625, "undecided")
    assert not found.promote


def test_nothing_is_shown_against_a_model_without_the_gates_metric(
    scores: MakeScores, work: Workdir
) -> None:
    """The base has no probes, so that probes cannot show a gain over it."""
    found = gate(work, scores(yes(20), probes=yes(8, 8)), scores(yes(20)), metric="probe_pass_rate")
    assert not found.promote
    assert found.reasons == (
        "Probe pass rate could not be compared with the base, which has no such score",
    )


def test_a_metric_that_the_rows_do_not_have_is_refused(scores: MakeScores, work: Workdir) -> None:
    """Text-to-SQL rows have no classes; a training is over by now, so that nothing may crash."""
    found = gate(work, scores(yes(20)), scores(yes(0)), metric="macro_f1", min_probe_pass_rate=0.5)
    assert not found.promote
    assert found.reasons[0].startswith("Macro F1 was not scored")


def test_a_smallest_value_bounds_no_perplexity(scores: MakeScores, work: Workdir) -> None:
    """Without `gate.metric` the rows choose perplexity; exp(0.5) = 1.65 over 0.5 means nothing."""
    challenger, base = (
        ModelScores.of({"perplexity": scores(yes(1), nll=[nats] * 40).reports["perplexity"]})
        for nats in (0.5, 1.0)
    )
    assert gate(work, challenger, base).promote
    found = gate(work, challenger, base, min_value=0.5)
    assert not found.promote
    assert "cannot bound Perplexity" in found.reasons[0]


def test_a_class_that_no_row_has_may_be_predicted(tmp_path: Path) -> None:
    """The opponent answers `c` everywhere, a class of the task that is in no held-out row.

    Golds a, b in turn: macro F1 is 1 against 0, over a and b.
    """

    def labelled(name: str, predicted: Sequence[str | None]) -> ScoreReport:
        folder = tmp_path / name
        folder.mkdir()
        write_outcomes(
            folder,
            [
                {
                    "row_id": str(at),
                    "group": None,
                    "gold": "ab"[at % 2],
                    "predicted": one,
                    "accuracy": one == "ab"[at % 2],
                }
                for at, one in enumerate(predicted)
            ],
        )
        return ScoreReport(digest=name, folder=folder, metrics={}, rows=20, unscored={})

    found = pair_metric(
        "macro_f1", labelled("good", ["a", "b"] * 10), labelled("bad", "c" * 20), 200
    )
    assert (found.difference, found.verdict, found.n) == (1.0, "better", 20)


def test_what_a_model_writes_cannot_break_its_rows(tmp_path: Path) -> None:
    """Line ends that JSON leaves as they are: U+2028, U+2029, U+0085."""
    rows = [
        {"row_id": str(at), "prediction": f"a{sign}b\n"}
        for at, sign in enumerate("\u2028\u2029\x85\r")
    ]
    write_outcomes(tmp_path, rows)
    report = ScoreReport(digest="d", folder=tmp_path, metrics={}, rows=4, unscored={})
    assert read_outcomes(report) == rows


def _grouped(scores: ModelScores, tmp_path: Path, group_of: Callable[[int], str]) -> ModelScores:
    """The same outcomes with other groups."""
    found = {}
    for name, report in scores.reports.items():
        folder = tmp_path / f"grouped-{len(list(tmp_path.iterdir()))}-{name}"
        folder.mkdir()
        rows = [row | {"group": group_of(at)} for at, row in enumerate(read_outcomes(report))]
        write_outcomes(folder, rows)
        found[name] = report.model_copy(update={"folder": folder})
    return scores.model_copy(update={"reports": found})


@pytest.mark.parametrize(("groups", "promoted"), [(2, False), (5, False), (6, True), (1, True)])
def test_few_databases_decide_nothing_however_many_rows(
    scores: MakeScores, work: Workdir, tmp_path: Path, groups: int, promoted: bool
) -> None:
    """Half of 120 rows won, none lost, the same in each group: p is 2^(1 - d), 0.0625 of five.

    Where all share one group, its rows are what the figure speaks of.
    """
    nll = (1.0,) * 120
    won = [at % 2 == 0 for at in range(120)]
    sides = (scores(won, nll=nll), scores([False] * 120, nll=nll))
    tuned, base = (_grouped(one, tmp_path, lambda at: f"g{at // 2 % groups}") for one in sides)
    found = gate(work, tuned, base)
    assert found.promote is promoted
    told = {1: "speaks of that group alone", 6: "in 6 groups: intervals over so few are too narrow"}
    few = f"in {groups} groups: intervals over so few are too narrow, and under 6 decide nothing"
    assert told.get(groups, few) in found.reasons[0]


def test_an_accepted_loss_needs_as_many_groups_as_a_gain(
    scores: MakeScores, work: Workdir, tmp_path: Path
) -> None:
    """The same model passes with min_gain below zero, but five groups cannot show that it does.

    Half a group is added to each case: 1.96 / (5 + 2) = 0.28 is within 0.3 as well.
    """
    nll = (1.0,) * 120
    same = scores(yes(60, 120), nll=nll)
    for groups, promoted in ((5, False), (6, True)):
        one = _grouped(same, tmp_path, lambda at, groups=groups: f"g{at % groups}")  # type: ignore[misc]
        assert gate(work, one, one, min_gain=-0.3).promote is promoted


def test_a_loss_on_few_databases_is_not_overlooked_where_another_metric_decides(
    scores: MakeScores, work: Workdir, tmp_path: Path
) -> None:
    """Probes are better; SQL fails on 20 of 40 rows more, in two databases that decide nothing."""
    tuned = scores(yes(0), probes=yes(20, 20))
    base = scores(yes(20), probes=yes(0, 20))

    def in_two(one: ModelScores) -> ModelScores:
        return _grouped(one, tmp_path, lambda at: f"g{at % 2}")

    found = gate(work, in_two(tuned), in_two(base), metric="probe_pass_rate")
    assert not found.promote
    assert found.reasons[0].startswith("worse than the base on the rows at hand")


def test_nothing_is_promoted_on_worn_out_rows(scores: MakeScores, work: Workdir) -> None:
    """At level 0 the largest gain is refused, told at 0.05, and spends nothing."""
    inputs = DecideInputs(challenger=scores(yes(40)), base=scores(yes(0)))
    settings = settings_of(DecideSettings, scoring={"resamples": 500})
    assert decide(inputs, settings, work).promote
    worn = decide(inputs.model_copy(update={"alpha": 0.0}), settings, work)
    assert not worn.promote and worn.alpha == 0.0 and worn.comparisons[0].alpha == 0.05
    assert "worn out" in worn.reasons[0] and len(worn.reasons) == 1
