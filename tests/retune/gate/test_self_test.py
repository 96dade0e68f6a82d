"""The gate against itself: nothing is promoted, and what would be is found out."""

from __future__ import annotations

from pathlib import Path

import pytest

from retune.cli.runs.gating import refuse_flips
from retune.data.tables import read_rows
from retune.errors import ScoringError
from retune.gate.self_test import SelfTest, run_self_test
from retune.gate.shuffling import shuffle_rows
from retune.gate.stages import DecideSettings, ShuffleInputs
from retune.recipe.sections import GateConfig
from retune.records import ChatRef
from retune.release.spending import find_level
from retune.score_records import ModelScores
from retune.spine.stage import Workdir
from tests.making import settings_of
from tests.retune.gate.conftest import MakeReport, sql_rows, write_side


def judge(
    make_report: MakeReport,
    folder: Path,
    second: list[bool | None],
    order: int = 1,
    metric: str | None = None,
) -> SelfTest:
    """Let the gate judge a model that is right on 20 of 40 rows, and a second scoring of it."""
    first: list[bool | None] = [at < 20 for at in range(40)]
    sides = [
        ModelScores.of({"sql": make_report(sql_rows(right)[::step], "sql_execution_match")})
        for right, step in ((first, 1), (second, order))
    ]
    settings = settings_of(
        DecideSettings,
        gate={"min_gain": -0.5, "slices": ["kind"], "metric": metric},
        scoring={"resamples": 200},
    )
    rows = write_side(folder, [{"question": "?"}] * 40)
    return run_self_test("base", sides[0], sides[1], rows, settings, 5)


def test_a_model_is_not_promoted_over_itself(make_report: MakeReport, tmp_path: Path) -> None:
    """Whatever the order of rows, and though the recipe accepts a loss."""
    found = judge(make_report, tmp_path / "rows", [at < 20 for at in range(40)], order=-1)
    assert [(each.against, each.draws, each.flips, each.vetoes) for each in found.counts] == [
        ("itself", 5, 0, 0),
        ("copy", 5, 0, 0),
    ]
    [difference] = found.differences
    assert (difference.metric, difference.apart, difference.rows) == ("sql_execution_match", 0, 0)
    refuse_flips(found)


def test_a_model_has_no_judgement_beside_itself(make_report: MakeReport, tmp_path: Path) -> None:
    """Where a judge decides, what the rows have without one is tested."""
    same: list[bool | None] = [at < 20 for at in range(40)]
    found = judge(make_report, tmp_path / "rows", same, metric="judge_win_rate")
    assert (found.metric, found.rows, found.flips) == ("sql_execution_match", 40, 0)


def test_a_scorer_that_gives_other_outcomes_is_found_out(
    make_report: MakeReport, tmp_path: Path
) -> None:
    """The second time 15 rows more are right: 15 won, none lost is a gain in each draw."""
    found = judge(make_report, tmp_path / "rows", [at < 35 for at in range(40)])
    assert found.flips == 5
    assert found.differences[0].apart == pytest.approx(15 / 40)
    assert found.differences[0].rows == 15
    with pytest.raises(ScoringError, match="over itself in 5 of 10 draws"):
        refuse_flips(found)


def test_it_is_taken_at_the_largest_level_of_a_decision(
    make_report: MakeReport, tmp_path: Path
) -> None:
    """One decision alone has the whole error to one side: 5 rows won of 5 that differ is p 0.0625.

    Under twice 0.05, and not under 0.05: such a gain would be accepted.
    """
    found = judge(make_report, tmp_path / "rows", [at < 25 for at in range(40)])
    alone = GateConfig(error=0.05, decisions_per_test_set=1)
    assert found.alpha == find_level(alone) == pytest.approx(0.1)
    assert found.flips == 5


def test_a_loss_of_a_part_counts_as_a_veto(make_report: MakeReport, tmp_path: Path) -> None:
    """15 rows lost: no promotion, but the part that they are of is called worse."""
    found = judge(make_report, tmp_path / "rows", [at < 5 for at in range(40)])
    assert [each.vetoes for each in found.counts] == [0, 5]
    assert found.flips == 0


def test_the_same_rows_come_in_another_order(tmp_path: Path, work: Workdir) -> None:
    """By a seed; the databases lie beside them, and the other sides are left out."""
    side = write_side(tmp_path / "test", [{} for _ in range(20)])
    (tmp_path / "test" / "databases.parquet").write_bytes(b"d")
    chat = ChatRef(
        digest="c", folder=tmp_path, train=1, validation=1, test=20, tokenizer_digest="t",
        side_digests={"train": "x", "validation": "y", "test": side.digest}, train_tokens=1,
        answer_tokens=1, longest_tokens=1, faults={},
    )  # fmt: skip
    found = shuffle_rows(ShuffleInputs(chat=chat, seed=1), work)
    rows = [
        [row["row_id"] for row in read_rows(each.folder / "rows.parquet")]
        for each in (side, found.side("test"))
    ]
    assert rows[0] != rows[1] and sorted(rows[0]) == sorted(rows[1])
    assert (found.side("test").folder / "databases.parquet").read_bytes() == b"d"
    assert found.side("test").digest != side.digest
