"""Guards: shown not to be worse than a margin; what is not shown does not hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from retune.gate.stages import DecideInputs
from retune.score_records import GateDecision, ModelScores, ScoreReport
from retune.scoring.outcomes import LATENCY_FILE
from retune.spine.stage import Workdir
from tests.retune.gate.conftest import MakeReport, decide_on, sql_rows

Guard = Callable[..., GateDecision]
BETTER = [True] * 30 + [False] * 10
WORSE = [False] * 40


def cases(passed: list[bool], category: str = "tone") -> list[dict[str, Any]]:
    return [
        {"row_id": f"{category}{at}", "group": category, "probe_pass_rate": one}
        for at, one in enumerate(passed)
    ]


@pytest.fixture
def guard(make_report: MakeReport, work: Workdir) -> Guard:
    """Decide on a challenger that is better at SQL, with other reports beside it, one guard set."""

    def decide(
        name: str,
        margin: float,
        ours: dict[str, ScoreReport],
        theirs: dict[str, ScoreReport],
        **inputs: Any,
    ) -> GateDecision:
        sides = [
            ModelScores.of({"sql": make_report(sql_rows(right), "sql_execution_match")} | others)
            for right, others in ((BETTER, ours), (WORSE, theirs))
        ]
        given = DecideInputs(challenger=sides[0], base=sides[1], **inputs)
        return decide_on(work, given, guards={name: margin})

    return decide


def test_no_difference_found_is_not_shown_to_be_none(guard: Guard, make_report: MakeReport) -> None:
    """Both pass the same 10 of 20 probes: the difference is 0 +- 1.96 * sqrt(1) / 22 = 0.089.

    Agresti and Min: half a win and half a loss are added, and two rows.
    """
    probes = [make_report(cases([True, False] * 10), "probe_pass_rate") for _ in range(2)]
    sides = [{"probes": each} for each in probes]
    wide = guard("probe_pass_rate", 0.1, *sides)
    assert wide.promote and wide.guards[0].holds
    assert wide.guards[0].low == pytest.approx(-0.089, abs=1e-3)
    narrow = guard("probe_pass_rate", 0.05, *sides)
    assert not narrow.promote
    [reason] = narrow.reasons
    assert reason.startswith("not shown to be within gate.guards.probe_pass_rate 0.05 of the base")


def test_groups_that_agree_say_little_of_one_that_nobody_saw(
    make_report: MakeReport, work: Workdir
) -> None:
    """20 databases of 5 rows, no row of which differs: a 21st may be lost as a whole.

    Half a group is added to each case: 1.96 * sqrt(5^2) / (100 + 10) = 0.089, and not
    1.96 * sqrt(1) / 102 = 0.019 as of a hundred rows on their own. Nor is a loss accepted for less.
    """
    rows = [
        {"row_id": f"r{at}", "group": f"g{at // 5}", "accuracy": at % 2 == 0} for at in range(100)
    ]
    classes = [each | {"gold": "a", "predicted": "a" if each["accuracy"] else "b"} for each in rows]
    report = make_report(classes, "accuracy", "macro_f1")
    side = ModelScores.of({"labels": report})
    inputs = DecideInputs(challenger=side, base=side)
    found = decide_on(
        work, inputs, metric="accuracy", min_gain=-0.05, guards={"accuracy": 0.1, "macro_f1": 0.05}
    )
    accuracy, macro = found.guards
    assert accuracy.low == pytest.approx(-0.089, abs=1e-3) and accuracy.holds
    assert macro.low == pytest.approx(-0.089, abs=1e-3) and not macro.holds
    assert any("by more than gate.min_gain -0.05" in reason for reason in found.reasons)
    assert decide_on(work, inputs, metric="accuracy", min_gain=-0.09).promote
    usual = decide_on(work, inputs, metric="accuracy")
    assert usual.comparisons[1].low == pytest.approx(-0.019, abs=1e-3)


def test_a_figure_that_is_missing_refuses(guard: Guard, make_report: MakeReport) -> None:
    """The base has no probes: nothing can be compared, and that is no yes."""
    found = guard(
        "probe_pass_rate", 1.0, {"probes": make_report(cases([True] * 20), "probe_pass_rate")}, {}
    )
    assert not found.promote and not found.guards[0].holds
    assert found.reasons[0].endswith("Probe pass rate could not be compared with the base")


def test_so_few_rows_that_no_test_could_decide_show_nothing(
    guard: Guard, make_report: MakeReport
) -> None:
    """Of 5 cases no exchange test is under 0.05 (2^-4 = 0.0625), however wide the margin."""
    five, six = (
        [{"probes": make_report(cases([True] * count), "probe_pass_rate")} for _ in range(2)]
        for count in (5, 6)
    )
    assert not guard("probe_pass_rate", 1.0, *five).promote
    assert guard("probe_pass_rate", 1.0, *six).promote
    # At 0.01 six are too few as well: 2^-5 = 0.031, and eight are needed (2^-7 = 0.0078).
    assert not guard("probe_pass_rate", 1.0, *six, alpha=0.01).guards[0].holds


def test_a_category_of_probes_is_guarded_on_its_own_cases(
    guard: Guard, make_report: MakeReport
) -> None:
    """All 20 cases of `tone` got lost, and 20 of `facts` were won: as a whole nothing changed."""
    won = cases([True] * 20, "facts") + cases([False] * 20, "tone")
    lost = cases([False] * 20, "facts") + cases([True] * 20, "tone")
    names = ("probe_pass_rate", "probe_pass_rate.tone", "probe_pass_rate.facts")
    sides = [{"probes": make_report(rows, *names)} for rows in (won, lost)]
    assert guard("probe_pass_rate.facts", 0.1, *sides).promote
    found = guard("probe_pass_rate.tone", 0.1, *sides)
    assert not found.promote
    assert (found.guards[0].difference, found.guards[0].n) == (-1.0, 20)


def test_changes_of_one_question_stand_together(guard: Guard, make_report: MakeReport) -> None:
    """Three rows, ten changes each: 30 trials are three units, and those can show nothing."""

    def flips(rows: int, kinds: int) -> dict[str, ScoreReport]:
        trials = [
            {"row_id": f"r{row}/k{kind}", "group": "all", "flip_rate": False}
            for row in range(rows)
            for kind in range(kinds)
        ]
        return {"robustness": make_report(trials, "flip_rate")}

    assert not guard("flip_rate", 0.5, flips(3, 10), flips(3, 10)).promote
    assert guard("flip_rate", 0.5, flips(30, 1), flips(30, 1)).promote


def test_more_flips_refuse_only_where_they_are_guarded(
    guard: Guard, make_report: MakeReport
) -> None:
    """A base that is always wrong never flips: without a guard no first model would pass."""

    def flipping(count: int) -> dict[str, ScoreReport]:
        rows = [
            {"row_id": f"r{at}/typos", "group": f"g{at}", "flip_rate": at < count}
            for at in range(40)
        ]
        return {"robustness": make_report(rows, "flip_rate")}

    more, none = flipping(20), flipping(0)
    loose = guard("flip_rate", 1.0, more, none)
    assert loose.promote and loose.guards[0].verdict == "worse"
    assert [each.metric for each in loose.comparisons] == ["sql_execution_match"]
    assert not guard("flip_rate", 0.1, more, none).promote


def test_rows_without_the_deciding_figure_are_counted_on_both_sides(
    make_report: MakeReport, work: Workdir
) -> None:
    """4 of 40 rows have none, of the base's 0: 0.1, and the interval is wider than a margin of 0.1.

    Lower is better: wins and losses change sides, so that it is the upper end that counts.
    """
    sides = [
        ModelScores.of({"sql": make_report(sql_rows(right), "sql_execution_match")})
        for right in ([None] * 4 + [True] * 36, [False] * 40)
    ]
    inputs = DecideInputs(challenger=sides[0], base=sides[1])
    found = decide_on(work, inputs, guards={"unscored_rate": 0.1}, max_unscored_fraction=0.2)
    [found_guard] = found.guards
    assert found_guard.difference == pytest.approx(0.1)
    assert found_guard.high is not None and found_guard.high > 0.1
    assert not found.promote
    wide = decide_on(work, inputs, guards={"unscored_rate": 0.5}, max_unscored_fraction=0.2)
    assert wide.promote


def test_latency_is_compared_where_it_was_measured_alike(
    guard: Guard, make_report: MakeReport
) -> None:
    """0.2 seconds more for each of 20 answers, in ten batches.

    Times of another device say nothing, nor do those of five batches, as no five units do, nor
    those of two devices or of a model that is not whole on one. A file without these was written
    when there was nothing else.
    """

    def timed(
        seconds: float, device: str, per_batch: int = 2, **how: object
    ) -> dict[str, ScoreReport]:
        report = make_report([], "answers")
        path = report.folder / LATENCY_FILE
        path.parent.mkdir()
        measured = {"device": device, "batch_size": 8, **how}
        times = {f"r{at}": {"seconds": seconds, "batch": at // per_batch} for at in range(20)}
        path.write_text(json.dumps({"measured": measured, "rows": times}))
        return {"answers": report}

    found = guard("seconds_per_answer", 0.25, timed(0.5, "cpu"), timed(0.3, "cpu"))
    assert found.promote
    assert found.guards[0].difference == pytest.approx(0.2)
    assert not guard("seconds_per_answer", 0.1, timed(0.5, "cpu"), timed(0.3, "cpu")).promote
    for per_batch in (4, 20):
        few = [timed(0.5, "cpu", per_batch), timed(0.3, "cpu", per_batch)]
        assert not guard("seconds_per_answer", 9.0, *few).promote
    elsewhere = guard("seconds_per_answer", 9.0, timed(0.5, "cpu"), timed(0.3, "cuda"))
    assert "Seconds per answer could not be compared" in elsewhere.reasons[0]
    whole: dict[str, object] = {"placement": "device", "devices": 1}
    old = timed(0.3, "cpu")
    assert guard("seconds_per_answer", 0.25, timed(0.5, "cpu", **whole), old).promote
    for other in ({"placement": "offloaded"}, {"devices": 2}):
        found = guard("seconds_per_answer", 9.0, timed(0.5, "cpu", **{**whole, **other}), old)
        assert "Seconds per answer could not be compared" in found.reasons[0]


def test_rows_that_were_batched_otherwise_are_as_many_units_as_batches(
    guard: Guard, make_report: MakeReport
) -> None:
    """20 batches of 20 rows by tens, or every twentieth: 400 pairs of batches, and 20 times.

    Every other batch of the challenger took 2 seconds a row more. Of 20 units the standard error is
    1 / sqrt(19): Student's 2.093 times that is 0.48. 400 of them would have 1.96 / 20 = 0.1.
    """

    def timed(batch: Callable[[int], int], slow: float) -> dict[str, ScoreReport]:
        report = make_report([], "answers")
        path = report.folder / LATENCY_FILE
        path.parent.mkdir()
        times = {
            f"r{at}": {"seconds": 1.0 + slow * (batch(at) % 2), "batch": batch(at)}
            for at in range(400)
        }
        path.write_text(json.dumps({"measured": {"device": "cpu"}, "rows": times}))
        return {"answers": report}

    sides = timed(lambda at: at // 20, 2.0), timed(lambda at: at % 20, 0.0)
    found = guard("seconds_per_answer", 1.2, *sides).guards[0]
    assert found.groups == 20 and found.difference == pytest.approx(1.0)
    assert found.high == pytest.approx(1.48, abs=0.05) and not found.holds


def test_a_size_is_counted_and_no_sample(guard: Guard) -> None:
    """200 bytes more than the base are within 200 and over 199; unknown sizes refuse."""
    sizes = {"challenger": 1200, "base": 1000}
    assert guard("release_bytes", 200, {}, {}, release_bytes=sizes).promote
    assert not guard("release_bytes", 199, {}, {}, release_bytes=sizes).promote
    assert not guard("release_bytes", 1e12, {}, {}).promote


def test_a_guard_compares_with_the_champion_where_there_is_one(
    make_report: MakeReport, work: Workdir
) -> None:
    """As good as a base that fails all probes, but the champion passes them all."""
    good, bad = (make_report(cases([passed] * 20), "probe_pass_rate") for passed in (True, False))
    challenger, base, champion = (
        ModelScores.of(
            {"sql": make_report(sql_rows(right), "sql_execution_match"), "probes": probes}
        )
        for right, probes in ((BETTER, bad), (WORSE, bad), (WORSE, good))
    )
    guards = {"probe_pass_rate": 0.2}
    first = decide_on(work, DecideInputs(challenger=challenger, base=base), guards=guards)
    assert first.guards[0].holds and first.guards[0].against == "base"
    second = decide_on(
        work, DecideInputs(challenger=challenger, base=base, champion=champion), guards=guards
    )
    assert not second.guards[0].holds and second.guards[0].against == "champion"


def test_the_level_is_that_of_the_decision(make_report: MakeReport, work: Workdir) -> None:
    """6 of 40 rows won, none lost: McNemar's p is 2 / 2^6 = 0.031, under 0.05 and over 0.0025."""
    sides = [
        ModelScores.of({"sql": make_report(sql_rows([at < won for at in range(40)]),
                                           "sql_execution_match")})
        for won in (6, 0)
    ]  # fmt: skip
    inputs = DecideInputs(challenger=sides[0], base=sides[1])
    assert decide_on(work, inputs).promote
    strict = decide_on(work, inputs.model_copy(update={"alpha": 0.0025}))
    assert not strict.promote
    assert (strict.metric, strict.alpha, strict.comparisons[0].alpha) == (
        "sql_execution_match",
        0.0025,
        0.0025,
    )
