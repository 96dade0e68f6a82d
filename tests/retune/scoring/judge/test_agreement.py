"""The stage `check_judge`: a judge that leans to something is found out."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import cohen_kappa_score

from retune.errors import DataError
from retune.recipe.sections import JudgeConfig
from retune.score_records import JudgeAgreement, JudgeSpending
from retune.scoring.judge.agreement import check_judge, measure_agreement
from retune.scoring.judge.asking import Judgement, PairVerdict
from retune.scoring.judge.stages import CheckJudgeInputs
from retune.scoring.judge.standing import doubt_judge
from retune.scoring.judge.verdict_files import JudgedPair, load_verdicts
from retune.scoring.judge.wording import Pair, Verdict, locate_wording
from tests.judge_stand_in import (
    Rule,
    StandInJudge,
    always_first,
    longer,
    nonsense,
    preferring,
)
from tests.making import source_of
from tests.retune.scoring.judge.conftest import judge_settings, work_in, write_verdicts

TURNED: dict[Verdict, Verdict] = {"a": "b", "b": "a", "tie": "tie"}
CONFIG = JudgeConfig(endpoint="http://judge/v1", model="judge", human_verdicts=Path("pairs.jsonl"))


def said(verdict: Verdict | None, turned: Verdict | None = None) -> PairVerdict:
    """A verdict on a pair: the same in both orders, or as the letters are given."""
    other = turned or (TURNED[verdict] if verdict else None)
    reasons = [None if each else "no_verdict" for each in (verdict, other)]
    return PairVerdict(Judgement(verdict, "", reasons[0]), Judgement(other, "", reasons[1]))


def pairs(verdicts: list[Verdict], first: str = "long answer", second: str = "short") -> Any:
    return [JudgedPair(Pair("?", first, second), each) for each in verdicts]


def test_kappa_is_that_of_scikit_learn() -> None:
    """Over drawn verdicts, of which some are none: those are a fourth kind, which nobody shares."""
    chance = random.Random(7)
    kinds: list[Verdict] = ["a", "b", "tie"]
    people = [chance.choice(kinds) for _ in range(60)]
    judge = [each if chance.random() < 0.6 else chance.choice([*kinds, None]) for each in people]
    found = measure_agreement(pairs(people), [said(each) for each in judge], 200)
    expected = cohen_kappa_score(people, [each or "none" for each in judge])
    assert found["kappa"].value == pytest.approx(expected)
    assert found["unscored"] == {"no_verdict": judge.count(None)}
    assert found["kappa"].n == len(people)


def test_kappa_of_four_pairs_by_hand() -> None:
    """Three of four agree: p = 3/4. People: 2 a, 2 b; judge: 3 a, 1 b: e = (2*3 + 2*1)/16 = 1/2.

    (3/4 - 1/2) / (1 - 1/2) = 1/2.
    """
    found = measure_agreement(pairs(["a", "a", "b", "b"]), [*map(said, ("a", "a", "a", "b"))], 200)
    assert found["kappa"].value == pytest.approx(0.5)


def test_a_few_pairs_that_all_agree_leave_room_for_doubt() -> None:
    """A bootstrap over them has no width; Wilson's lower end of 6 of 6 is 6 / (6 + 1.96^2)."""
    people: list[Verdict] = ["a", "b"] * 3
    found = measure_agreement(pairs(people), [said(each) for each in people], 200)["kappa"]
    low = 6 / (6 + 1.959964**2)
    assert (found.value, found.high) == (pytest.approx(1.0), pytest.approx(1.0))
    assert found.low == pytest.approx((low - 0.5) / (1 - 0.5), abs=1e-4)


def test_an_order_that_turns_the_verdict_makes_a_tie() -> None:
    """A in both orders is one answer and then the other; A and B is twice the same one."""
    for found, verdict, changed in (
        (said("a", "a"), "tie", True),
        (said("a", "b"), "a", False),
        (said("tie", "a"), "tie", True),
        (said("tie", "tie"), "tie", False),
        (said("a", None), "a", False),
    ):
        assert (found.verdict, found.changed) == (verdict, changed)


def test_the_judges_taste_for_length_is_held_against_that_of_people() -> None:
    """A is the longer one. People choose it in 10 of 20 pairs, the judge in all: half more."""
    people: list[Verdict] = ["a", "b"] * 10
    found = measure_agreement(pairs(people), [said("a")] * 20, 200)
    assert found["longer_preferred"].value == 1.0
    assert found["people_longer_preferred"].value == 0.5
    assert found["length_bias"].difference == pytest.approx(0.5)
    assert found["length_bias"].verdict == "worse"


RIGHT_IS_SHORT = [("right", "wrong and long", "a"), ("wrong as can be", "right", "b")] * 12
RIGHT_IS_LONG = [("right in detail", "wrong", "a"), ("wrong", "right and long", "b")] * 10
KNOWS = preferring(lambda _, answer: float("right" in answer))


def check(
    tmp_path: Path, judge: StandInJudge, rule: Rule, verdicts: list[tuple[str, str, str]]
) -> JudgeAgreement:
    judge.rule = rule
    path = write_verdicts(tmp_path / "verdicts.jsonl", verdicts)
    inputs = CheckJudgeInputs(human_verdicts=source_of(path), wording=locate_wording(None, "en"))
    return check_judge(inputs, judge_settings(judge), work_in(tmp_path, "check"))


def test_a_judge_that_knows_what_is_right_may_decide(tmp_path: Path, judge: StandInJudge) -> None:
    """Every verdict is that of people, in both orders: half of its letters are A."""
    found = check(tmp_path, judge, KNOWS, RIGHT_IS_SHORT)
    assert found.agreement.value == found.kappa.value == 1.0
    assert (found.first_preferred.value, found.turned) == (0.5, 0)
    assert doubt_judge(CONFIG, found) == ()
    assert found.spent.requests == len(judge.asked) == 2 * len(RIGHT_IS_SHORT)
    lines = (found.folder / "verdicts.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == len(RIGHT_IS_SHORT)


def test_a_judge_that_always_says_the_first_is_found_out(
    tmp_path: Path, judge: StandInJudge
) -> None:
    """All of its verdicts turn with the order, so that all are ties: kappa is 0."""
    found = check(tmp_path, judge, always_first, RIGHT_IS_SHORT)
    assert (found.kappa.value, found.turned) == (0.0, len(RIGHT_IS_SHORT))
    assert found.first_preferred.value == 1.0
    [doubt] = doubt_judge(CONFIG, found)
    assert "not shown to agree with people" in doubt
    assert "it prefers what is shown first in 100%" in doubt


def test_a_judge_that_always_says_the_longer_is_found_out(
    tmp_path: Path, judge: StandInJudge
) -> None:
    """Where people prefer the short one it disagrees with all; kappa is below 0."""
    found = check(tmp_path, judge, longer, RIGHT_IS_SHORT)
    assert (found.kappa.value or 0.0) < 0
    assert "the longer answer" in " ".join(doubt_judge(CONFIG, found))


def test_a_taste_for_length_counts_although_people_often_share_it(
    tmp_path: Path, judge: StandInJudge
) -> None:
    """Of 200 pairs people prefer the longer one in 160, the judge in all: 20 points more.

    It agrees with 80 %; kappa is (0.8 - 0.5) / 0.5 = 0.6, which alone would do.
    """
    short = [("right", "wrong and long", "a"), ("wrong as can be", "right", "b")] * 20
    found = check(tmp_path, judge, longer, RIGHT_IS_LONG * 8 + short)
    assert found.kappa.value == pytest.approx(0.6)
    assert float(found.kappa.low or 0) >= CONFIG.min_agreement
    [doubt] = doubt_judge(CONFIG, found)
    assert "+20.0% more often than people" in doubt


def test_a_judge_without_verdicts_agrees_with_nobody(tmp_path: Path, judge: StandInJudge) -> None:
    """Each is asked once more in each order, and no more; then counted."""
    found = check(tmp_path, judge, nonsense, RIGHT_IS_SHORT[:4])
    assert found.unscored == {"no_verdict": 4}
    assert found.kappa.value == 0.0 and found.first_preferred.value is None
    assert judge.requests == 4 * 2 * 2
    assert "4 of 4 pairs have no verdict" in " ".join(doubt_judge(CONFIG, found))


@pytest.mark.parametrize(("unscored", "doubts"), [("refused", 1), ("budget_spent", 0)])
def test_a_judge_that_will_not_read_some_pairs_is_in_doubt(unscored: str, doubts: int) -> None:
    """It agrees on 40 of 50 pairs, and was not able to read the others; or was not asked them."""
    people: list[Verdict] = ["a", "b"] * 25
    silent = PairVerdict(Judgement(None, None, unscored), Judgement(None, None, unscored))
    verdicts = [said(each) if at < 40 else silent for at, each in enumerate(people)]
    found = measure_agreement(pairs(people), verdicts, 200)
    assert (found["kappa"].n, found["unscored"]) == (40, {unscored: 10})
    spent = JudgeSpending()
    record = JudgeAgreement(digest="", folder=Path("folder"), spent=spent, **found)
    told = doubt_judge(CONFIG, record)
    assert len(told) == doubts
    assert all("not able to read 10 of the 50 pairs" in each for each in told)


def test_without_people_a_judge_may_decide_nothing() -> None:
    [doubt] = doubt_judge(CONFIG, None)
    assert "judge.human_verdicts" in doubt


def test_every_wrong_line_of_the_verdicts_is_named(tmp_path: Path) -> None:
    path = write_verdicts(tmp_path / "v.jsonl", [("x", "y", "A"), ("x", "y", "b")])
    with path.open("a", encoding="utf-8") as file:
        file.write('\n{"prompt": "?", "answer_a": 1, "verdict": "a"}')
    with pytest.raises(DataError) as refused:
        load_verdicts(path)
    assert "line 1: verdict: found 'A', expected a, b or tie" in refused.value.message
    assert "line 3: answer_a, answer_b: expected a text" in refused.value.message


def test_verdicts_that_are_all_the_same_tell_no_judges_apart(tmp_path: Path) -> None:
    path = write_verdicts(tmp_path / "v.jsonl", [("x", "y", "a")] * 3)
    with pytest.raises(DataError, match="all 3 pairs have the verdict a"):
        load_verdicts(path)
