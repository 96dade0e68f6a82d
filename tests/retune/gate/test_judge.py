"""The gate over what a judge says: it decides where people agree with it, and else nothing."""

from __future__ import annotations

from math import comb
from typing import Any

import pytest

from retune.gate.stages import DecideInputs
from retune.score_records import GateDecision, JudgeStanding, ModelScores
from retune.spine.stage import Workdir
from tests.retune.gate.conftest import MakeReport, decide_on

BELIEVED = JudgeStanding(doubts=(), notes=("judge j and people: kappa 0.80",))
DOUBTED = JudgeStanding(doubts=("it is not shown to agree with people",), notes=("what it said",))
CHRF = 0.3


def rows_of(values: list[float | None], name: str) -> list[dict[str, Any]]:
    return [{"row_id": f"r{at}", "group": f"g{at}", name: value} for at, value in enumerate(values)]


def judged(
    make_report: MakeReport, values: list[float | None], judge: JudgeStanding, **roles: ModelScores
) -> DecideInputs:
    """A challenger with a little more chrF than its opponent, and what a judge says of the two."""
    more = [CHRF + 0.1 + at % 7 / 1000 for at in range(len(values))]
    plain = ModelScores.of({"text": make_report(rows_of([CHRF] * len(values), "chrf"), "chrf")})
    ours = ModelScores.of({"text": make_report(rows_of([*more], "chrf"), "chrf")})
    other = [None if value is None else 1 - value for value in values]
    reports = [
        make_report(rows_of(each, "judge_win_rate"), "judge_win_rate") for each in (values, other)
    ]
    opponent = plain.judged(reports[1], judge)
    given = {"base": plain, "champion": opponent} if roles else {"base": opponent}
    return DecideInputs(challenger=ours.judged(reports[0], judge), **given)


def decide_judged(work: Workdir, inputs: DecideInputs, **gate: Any) -> GateDecision:
    return decide_on(work, inputs, **{"metric": "judge_win_rate"} | gate)


def test_the_difference_is_wins_minus_losses_with_the_sign_test_over_decided_rows(
    make_report: MakeReport, work: Workdir
) -> None:
    """15 won, 3 lost, 12 alike: 12 / 30; p = 2 * sum of C(18, 0..3) / 2^18."""
    inputs = judged(make_report, [1.0] * 15 + [0.0] * 3 + [0.5] * 12, BELIEVED)
    decision = decide_judged(work, inputs)
    [found] = [each for each in decision.comparisons if each.metric == "judge_win_rate"]
    assert found.difference == pytest.approx(0.4)
    assert found.p_value == pytest.approx(2 * sum(comb(18, k) for k in range(4)) / 2**18)
    assert decision.promote, decision.reasons
    assert BELIEVED.notes[0] in decision.notes


def test_ties_and_rows_without_a_verdict_show_nothing(
    make_report: MakeReport, work: Workdir
) -> None:
    """All alike: undecided, with an interval that has a width, so that no guard holds by it."""
    decision = decide_judged(work, judged(make_report, [0.5] * 30, BELIEVED))
    assert not decision.promote
    [found] = [each for each in decision.comparisons if each.metric == "judge_win_rate"]
    assert (found.difference, found.verdict) == (0.0, "undecided")
    assert found.low is not None and found.low < 0
    unjudged: list[float | None] = [1.0] * 20 + [None] * 10
    decision = decide_judged(work, judged(make_report, unjudged, BELIEVED))
    assert not decision.promote
    assert any("have no Judge's win rate" in reason for reason in decision.reasons)


def test_it_is_asked_of_the_champion_alone_where_there_is_one(
    make_report: MakeReport, work: Workdir
) -> None:
    """The base has no such score then, and need not."""
    values: list[float | None] = [1.0] * 25 + [0.0] * 3
    inputs = judged(make_report, values, BELIEVED, champion=ModelScores.of({}))
    decision = decide_judged(work, inputs)
    assert decision.promote, decision.reasons
    without = inputs.model_copy(update={"champion": inputs.base})
    decision = decide_judged(work, without)
    assert not decision.promote
    assert "could not be compared with the champion" in " ".join(decision.reasons)


def test_a_judge_in_doubt_promotes_nothing_however_often_the_challenger_won(
    make_report: MakeReport, work: Workdir
) -> None:
    """The gate says why."""
    decision = decide_judged(work, judged(make_report, [1.0] * 40, DOUBTED))
    assert not decision.promote
    assert decision.reasons == (
        "gate.metric: the judge's figure decides nothing: it is not shown to agree with people",
    )
    assert decision.comparisons


@pytest.mark.parametrize(("judge", "promotes"), [(BELIEVED, False), (DOUBTED, True)])
def test_a_judge_in_doubt_refuses_nothing_either(
    make_report: MakeReport, work: Workdir, judge: JudgeStanding, promotes: bool
) -> None:
    """It is better by chrF, which decides; the judge finds all worse, which counts if believed."""
    inputs = judged(make_report, [0.0] * 40, judge)
    decision = decide_judged(work, inputs, metric="chrf")
    assert decision.promote is promotes, decision.reasons
    shown = [each for each in decision.comparisons if each.metric == "judge_win_rate"]
    assert [each.verdict for each in shown] == ["worse"]


def test_a_guard_of_a_judge_in_doubt_does_not_hold(make_report: MakeReport, work: Workdir) -> None:
    values: list[float | None] = [1.0] * 40
    guards = {"judge_win_rate": 0.1}
    held = decide_judged(work, judged(make_report, values, BELIEVED), metric="chrf", guards=guards)
    assert held.promote and held.guards[0].holds
    doubted = decide_judged(
        work, judged(make_report, values, DOUBTED), metric="chrf", guards=guards
    )
    assert not doubted.promote
    assert doubted.reasons[0].startswith("gate.guards.judge_win_rate: the judge's figure")
