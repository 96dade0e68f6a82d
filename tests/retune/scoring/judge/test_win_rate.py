"""The stage `judge_answers`: who won, what was asked, and what a second run pays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retune.data.schemas import INDEX_SCHEMA, ROW_SCHEMA
from retune.data.tables import write_table
from retune.errors import ScoringError, ServiceError
from retune.recipe.sections import JudgeConfig
from retune.score_records import JudgedAnswers
from retune.scoring.judge.asked import read_asked, write_asked
from retune.scoring.judge.stages import JudgeInputs
from retune.scoring.judge.standing import stand
from retune.scoring.judge.win_rate import estimate_win_rate, judge_answers
from retune.scoring.judge.wording import locate_wording
from retune.scoring.outcomes import read_outcomes
from tests.judge_stand_in import StandInJudge, always_first, nonsense, preferring
from tests.retune.scoring.judge.conftest import (
    judge_settings,
    work_in,
    write_answers_of,
    write_asked_rows,
)

KNOWS = preferring(lambda _, answer: float("right" in answer))
OURS = ["right", "right", "wrong", "wrong so", "same", None]
THEIRS = ["wrong", "wrong too", "right", "wrong no", "same ", "right"]


class Bench:
    """Two models' answers, judged as often as a test wants."""

    def __init__(self, folder: Path, judge: StandInJudge) -> None:
        self.folder, self.judge = folder, judge
        judge.rule = KNOWS
        split, source = write_asked_rows(folder / "rows", len(OURS))
        self.inputs = JudgeInputs(
            split=split,
            sources=(source,),
            system=None,
            challenger=write_answers_of(folder / "ours", OURS),
            opponent=write_answers_of(folder / "theirs", THEIRS),
            wording=locate_wording(None, "en"),
            itself=(),
        )

    def run(self, name: str, **config: Any) -> JudgedAnswers:
        settings = judge_settings(self.judge, **config)
        return judge_answers(self.inputs, settings, work_in(self.folder, name))


@pytest.fixture
def bench(tmp_path: Path, judge: StandInJudge) -> Bench:
    return Bench(tmp_path, judge)


def values(found: JudgedAnswers, side: Any) -> list[float | None]:
    return [row["judge_win_rate"] for row in read_outcomes(found.report_of(side))]


def test_wins_and_half_the_ties_are_the_rate(bench: Bench) -> None:
    """Two won, one lost, one alike, one equal; one that was not answered: (2 + 0.5 + 0.5) / 5."""
    found = bench.run("one")
    assert (found.wins, found.losses, found.ties, found.equal) == (2, 1, 2, 1)
    assert values(found, "challenger") == [1.0, 1.0, 0.0, 0.5, 0.5, None]
    assert values(found, "opponent") == [0.0, 0.0, 1.0, 0.5, 0.5, None]
    rate, other = found.win_rates["challenger"], found.win_rates["opponent"]
    assert (rate.value, rate.n, found.rows) == (pytest.approx(0.6), 5, 6)
    assert other.value == pytest.approx(0.4) and other.low == pytest.approx(
        1 - float(rate.high or 0)
    )
    assert found.unscored == {"prompt_too_long": 1}


def test_each_answer_is_shown_with_its_own_question(bench: Bench) -> None:
    """Whatever the order of the index; rows 0 to 3, each in two orders."""
    seen: list[tuple[str, str]] = []
    bench.judge.rule = lambda shown: seen.append((shown.question, shown.a)) or "[[tie]]"
    bench.run("one")
    assert sorted(seen) == sorted(
        (f"Question {at}?", side[at]) for at in range(4) for side in (OURS, THEIRS)
    )


def test_what_is_asked_is_read_from_the_source_of_each_row(tmp_path: Path) -> None:
    """Two sources whose rows take turns in the index, in another order than their own."""
    texts = {0: ["a0", "a1"], 1: ["b0", "b1"]}
    empty: dict[str, Any] = dict.fromkeys(ROW_SCHEMA.names)
    sources = [tmp_path / f"{number}.parquet" for number in texts]
    for path, questions in zip(sources, texts.values(), strict=True):
        rows = [empty | {"question": each, "context": ""} for each in questions]
        write_table(path, rows, ROW_SCHEMA)
    order = [(1, 1), (0, 0), (1, 0), (0, 1)]
    index: dict[str, Any] = dict.fromkeys(INDEX_SCHEMA.names)
    named = [
        index | {"source": source, "row": row, "row_id": f"of {texts[source][row]}"}
        for source, row in order
    ]
    write_table(tmp_path / "test.parquet", named, INDEX_SCHEMA)
    found = read_asked(tmp_path / "test.parquet", sources, None)
    assert found == {f"of {each}": each for each in ("a0", "a1", "b0", "b1")}


def test_what_stands_around_a_question_is_shown_too() -> None:
    """The text beside it, the turns before it, and a system message: the row's own wins."""
    row = {"question": "Shorter?", "context": "A text.", "history": [], "steps": None}
    assert write_asked(row, None) == "Shorter?\n\nA text."
    turn = {"role": "assistant", "content": "Hello.", "calls": None}
    before = [{"role": "user", "content": "Hi"}, turn]
    assert write_asked(row | {"history": before}, "Be kind.") == (
        "[system]\nBe kind.\n\n[user]\nHi\n\n[assistant]\nHello.\n\n[user]\nShorter?\n\nA text."
    )
    own = [{"role": "system", "content": "Be brief."}]
    assert "Be kind." not in write_asked(row | {"history": own}, "Be kind.")


def test_equal_answers_and_absent_ones_are_not_asked_about(bench: Bench) -> None:
    """Four rows in two orders."""
    found = bench.run("one")
    assert found.spent.requests == bench.judge.requests == 8


def test_a_judge_that_looks_at_the_order_makes_ties(bench: Bench) -> None:
    bench.judge.rule = always_first
    found = bench.run("one")
    assert (found.wins, found.losses, found.turned) == (0, 0, 4)
    assert found.first_preferred.value == 1.0
    assert found.win_rates["challenger"].value == 0.5


def test_rows_without_a_verdict_have_no_figure(bench: Bench) -> None:
    """Asked once more each, and counted; the equal row is a tie all the same."""
    bench.judge.rule = nonsense
    found = bench.run("one")
    assert found.unscored == {"no_verdict": 4, "prompt_too_long": 1}
    assert found.win_rates["challenger"].n == 1
    assert bench.judge.requests == 16
    assert bench.run("two").spent.requests == 0  # also that is not paid for twice


def test_a_second_run_pays_nothing_and_says_the_same(bench: Bench) -> None:
    """The artifact is the same to the letter: what was paid is no part of it."""
    first, second = bench.run("one"), bench.run("two")
    assert first.digest == second.digest
    assert (second.spent.requests, second.spent.reused) == (0, 8)
    assert bench.judge.requests == 8


def test_a_judge_that_stops_in_the_middle_is_asked_only_what_it_has_not_answered(
    bench: Bench,
) -> None:
    """Three answered before; then the other five, and each question once in all."""
    bench.judge.stops_after = 3
    with pytest.raises(ServiceError, match="are kept"):
        bench.run("one", runtime={"attempts": 1, "concurrency": 2})
    bench.judge.stops_after = None
    found = bench.run("two")
    assert (found.spent.asked, found.spent.reused) == (5, 3)
    assert len(bench.judge.asked) == len(set(bench.judge.asked)) == 8
    assert found.wins == 2


def test_a_budget_is_taken_up_where_a_smaller_one_ended(bench: Bench) -> None:
    """Four requests are two rows; the rest is counted, and a larger budget pays for it alone."""
    small = bench.run("one", budget={"requests": 4}, runtime={"concurrency": 1})
    assert small.unscored == {"budget_spent": 2, "prompt_too_long": 1}
    assert (small.wins, small.win_rates["challenger"].n) == (2, 3)
    large = bench.run("two", budget={"requests": 6})
    assert (large.spent.requests, large.spent.reused, large.unscored) == (
        4,
        4,
        {"prompt_too_long": 1},
    )


@pytest.mark.parametrize(
    "config",
    [
        {"model": "another"},
        {"revision": "2026-11"},
        {"rubric": "be kind"},
        {"language": "pt"},
        {"max_new_tokens": 99},
    ],
)
def test_another_judge_or_question_is_asked_anew(bench: Bench, config: dict[str, Any]) -> None:
    """What an answer depends on: none of it is taken for another's."""
    bench.run("one")
    assert bench.run("two", **config).spent.reused == 0


def test_a_damaged_kept_answer_is_asked_for_again(bench: Bench) -> None:
    bench.run("one")
    kept = sorted((bench.folder / "kept").glob("*/*.json"))
    kept[0].write_text('{"text": ', "utf-8")
    kept[1].unlink()
    assert bench.run("two").spent.asked == 2


def test_a_judge_that_refuses_everything_ends_the_run(bench: Bench) -> None:
    bench.judge.faults = [(400, {})] * 8
    with pytest.raises(ScoringError, match="refuses all 8 questions"):
        bench.run("one")


def test_all_rows_won_leave_room_for_doubt() -> None:
    """Wilson's lower end of 6 of 6: 6 / (6 + 1.96^2); a bootstrap of them has no width."""
    found = estimate_win_rate([1.0] * 6, [f"g{at}" for at in range(6)], 200)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(6 / (6 + 1.959964**2), abs=1e-4)


def test_what_was_said_is_kept_row_by_row(bench: Bench) -> None:
    rows = read_outcomes(bench.run("one").report_of("challenger"))
    assert rows[0]["said"] == ["[[A]]", "[[B]]"]
    assert [row["compared"] for row in rows[3:5]] == [None, "equal"]
    assert "key" not in json.dumps(rows).lower()


def test_readers_are_told_what_was_counted_and_whom_the_judge_is(bench: Bench) -> None:
    bench.inputs = bench.inputs.model_copy(update={"itself": ("the base", "the challenger")})
    config = JudgeConfig(endpoint=bench.judge.address, model="judge")
    standing = stand(config, None, bench.run("one"))
    told = "\n".join(standing.notes)
    assert "2 answers better, 1 worse, 2 alike (1 the same text, 0 by an order" in told
    assert "8 questions asked and 0 kept ones reused, in 8 requests, 800 tokens read" in told
    assert "judges itself, or what was trained from it: the base, the challenger" in told
    assert "its figure is shown and decides nothing" in told
    assert standing.doubts
