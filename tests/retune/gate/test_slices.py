"""Slices: a part of the rows that is shown to be worse refuses, however good the whole is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retune.gate.parts import part_rows
from retune.gate.stages import DecideInputs
from retune.score_records import GateDecision, ModelScores
from retune.spine.stage import Workdir
from tests.retune.gate.conftest import MakeReport, decide_on, sql_rows, write_side

EASY, HARD = (
    "SELECT a FROM t",
    "SELECT a FROM t WHERE b = 1 AND c IN (SELECT d FROM u) GROUP BY a ORDER BY a LIMIT 1",
)


def decide_by_hardness(
    make_report: MakeReport, work: Workdir, folder: Path, lost: int, **config: Any
) -> GateDecision:
    """60 easy rows are won; of 40 other ones the first `lost` are lost, and the rest equal."""
    rows = [{"db_id": "d", "answer": EASY if at < 60 else HARD} for at in range(100)]
    ours = [at < 60 or at >= 60 + lost for at in range(100)]
    theirs = [at >= 60 for at in range(100)]
    sides = [
        ModelScores.of({"sql": make_report(sql_rows(right), "sql_execution_match")})
        for right in (ours, theirs)
    ]
    inputs = DecideInputs(challenger=sides[0], base=sides[1], rows=write_side(folder, rows))
    return decide_on(work, inputs, **config)


def test_a_part_that_is_shown_to_be_worse_refuses(
    make_report: MakeReport, work: Workdir, tmp_path: Path
) -> None:
    """60 won and 20 lost are a clear gain, but all 20 losses are among the 40 hard queries.

    Two parts are tested, each at 0.05 / 2; McNemar's p of the hard ones is 2 / 2^20.
    """
    assert decide_by_hardness(make_report, work, tmp_path / "a", 20).promote
    found = decide_by_hardness(make_report, work, tmp_path / "b", 20, slices=["hardness"])
    assert not found.promote
    assert {each.part: each.refuses for each in found.slices} == {"easy": False, "extra": True}
    [hard] = [each for each in found.slices if each.refuses]
    assert (hard.rows, hard.lost, hard.alpha) == (40, 20, 0.025)
    assert hard.first == ("r60", "r61", "r62", "r63", "r64")
    [reason] = found.reasons
    assert reason.startswith(
        "hardness extra: worse than the base: SQL execution match −50.0 points"
    )
    assert reason.endswith("worse on 20 of them: r60, r61, r62, r63, r64 ...")


def test_the_level_is_divided_by_the_number_of_parts(
    make_report: MakeReport, work: Workdir, tmp_path: Path
) -> None:
    """6 of 40 lost: p = 2 / 2^6 = 0.031 is under 0.05, and over the 0.025 of one part of two."""
    found = decide_by_hardness(make_report, work, tmp_path / "a", 6, slices=["hardness"])
    assert found.promote
    assert [each.p_value for each in found.slices] == [pytest.approx(2 / 2**60), 2 / 2**6]
    assert decide_by_hardness(
        make_report, work, tmp_path / "b", 6, slices=["hardness"], min_slice_rows=41
    ).promote
    # With the other part too small, it is one of one.
    large = decide_by_hardness(
        make_report, work, tmp_path / "c", 7, slices=["hardness"], min_slice_rows=40
    )
    assert not large.promote  # 2 / 2^7 = 0.016


def test_a_small_part_refuses_nothing_and_is_named(
    make_report: MakeReport, work: Workdir, tmp_path: Path
) -> None:
    """40 rows are under a bound of 41."""
    found = decide_by_hardness(
        make_report, work, tmp_path / "a", 40, slices=["hardness"], min_slice_rows=41
    )
    assert [(each.part, each.rows) for each in found.small_slices] == [("extra", 40)]
    assert [each.part for each in found.slices] == ["easy"]


def test_a_part_is_compared_with_the_champion_where_there_is_one(
    make_report: MakeReport, work: Workdir, tmp_path: Path
) -> None:
    """As good as the base on each part, and worse than the champion on the second."""
    ours = [True] * 60 + [False] * 40
    theirs = [False] * 60 + [True] * 40
    challenger, base, champion = (
        ModelScores.of({"sql": make_report(sql_rows(right), "sql_execution_match")})
        for right in (ours, [False] * 100, theirs)
    )
    rows = [{"db_id": "d", "answer": EASY if at < 60 else HARD} for at in range(100)]
    given = DecideInputs(challenger=challenger, base=base, rows=write_side(tmp_path / "rows", rows))
    assert decide_on(work, given, slices=["hardness"]).promote
    found = decide_on(
        work, given.model_copy(update={"champion": champion}), slices=["hardness"], min_gain=-1.0
    )
    assert [each.against for each in found.slices] == ["champion"] * 2
    assert "hardness extra: worse than the champion" in found.reasons[-1]


def test_what_no_row_has_or_nobody_gave_never_reads_as_passed(
    make_report: MakeReport, work: Workdir, tmp_path: Path
) -> None:
    """Queries have no labels; and without rows nothing can be parted."""
    found = decide_by_hardness(make_report, work, tmp_path / "a", 0, slices=["label"])
    assert found.reasons == ("gate.slices: no held-out row has a label",)
    sides = [
        ModelScores.of({"sql": make_report(sql_rows(right), "sql_execution_match")})
        for right in ([True] * 40, [False] * 40)
    ]
    blind = decide_on(work, DecideInputs(challenger=sides[0], base=sides[1]), slices=["group"])
    assert "could not be compared with the base by parts" in blind.reasons[0]


def test_macro_f1_is_parted_by_accuracy(
    make_report: MakeReport, work: Workdir, tmp_path: Path
) -> None:
    """A class of 30 rows falls from all right to none, while two others are won."""

    def labelled(wrong: str) -> ModelScores:
        golds = ["a"] * 30 + ["b"] * 30 + ["c"] * 30
        rows = [
            {
                "row_id": f"r{at}",
                "group": f"g{at}",
                "gold": gold,
                "predicted": "x" if gold in wrong else gold,
                "accuracy": gold not in wrong,
            }
            for at, gold in enumerate(golds)
        ]
        return ModelScores.of({"labels": make_report(rows, "accuracy", "macro_f1")})

    side = write_side(tmp_path / "rows", [{"label": "abc"[at // 30]} for at in range(90)])
    inputs = DecideInputs(challenger=labelled("a"), base=labelled("bc"), rows=side)
    found = decide_on(work, inputs, metric="macro_f1", slices=["label"], max_unscored_fraction=1.0)
    assert [(each.part, each.metric, each.refuses) for each in found.slices] == [
        ("a", "accuracy", True),
        ("b", "accuracy", False),
        ("c", "accuracy", False),
    ]


def test_rows_say_which_parts_they_are_of(tmp_path: Path) -> None:
    """A query, a class, an answer and a text; a text of four words has no language."""
    rows = [
        {"group": "d", "db_id": "d", "question": "Quantos cantores há na base de dados?"},
        {"group": "d", "label": "good", "question": "The service was friendly and very quick."},
        {"group": "e", "question": "Oi?"},
        {"answer": "Um texto sem pergunta nenhuma, escrito em português do Brasil."},
    ]
    rows[0]["answer"] = EASY
    found = part_rows(
        write_side(tmp_path / "rows", rows),
        ("group", "kind", "hardness", "language", "label"),
        "sqlite",
    )
    assert found["group"] == {"d": {"r0", "r1"}, "e": {"r2"}, "g3": {"r3"}}
    assert found["kind"] == {"query": {"r0"}, "class": {"r1"}, "answer": {"r2"}, "text": {"r3"}}
    assert found["hardness"] == {"easy": {"r0"}}
    assert found["language"] == {"en": {"r1"}, "pt": {"r0", "r3"}}
    assert found["label"] == {"good": {"r1"}}
