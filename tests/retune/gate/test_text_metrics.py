"""The gate over figures of free text: those that ship, BLEU of all rows, and a team's own."""

from __future__ import annotations

from typing import Any

import pytest

from retune.gate.pairing import pair_metric
from retune.gate.stages import DecideInputs
from retune.score_records import ModelScores
from retune.scoring.free_text.score import estimate
from retune.scoring.free_text.shipped import Text, count_ngrams
from retune.spine.stage import Workdir
from tests.retune.gate.conftest import MakeReport, decide_on

ROWS = 40
RIGHT = "o gato dorme na cama azul"


def text_rows(values: list[float], name: str = "chrf") -> list[dict[str, Any]]:
    return [{"row_id": f"r{at}", "group": f"g{at}", name: value} for at, value in enumerate(values)]


def scores(make_report: MakeReport, rows: list[dict[str, Any]], name: str) -> ModelScores:
    return ModelScores.of({"text": make_report(rows, name)})


@pytest.mark.parametrize(
    ("metric", "better", "promotes"),
    [
        ("chrf", 0.5, True),
        ("chrf", 0.1, False),
        ("own_metric.house", 0.5, True),
        ("own_error.wer", 0.1, True),  # lower is better
        ("own_error.wer", 0.5, False),
    ],
)
def test_a_figure_of_text_decides_by_its_direction(
    make_report: MakeReport, work: Workdir, metric: str, better: float, promotes: bool
) -> None:
    """Against 0.3 on every row, with a little noise: shown to be better, or shown to be worse."""
    noise = [at % 7 / 1000 for at in range(ROWS)]
    ours = scores(make_report, text_rows([better + each for each in noise], metric), metric)
    theirs = scores(make_report, text_rows([0.3] * ROWS, metric), metric)
    decision = decide_on(work, DecideInputs(challenger=ours, base=theirs), metric=metric)
    assert decision.promote is promotes, decision.reasons
    assert decision.comparisons[0].metric == metric


def test_a_teams_metric_that_got_worse_refuses_beside_another_that_decides(
    make_report: MakeReport, work: Workdir
) -> None:
    """As every figure does that is compared; and it guards where the recipe names it."""
    noise = [at % 7 / 1000 for at in range(ROWS)]

    def both(chrf: float, house: float) -> ModelScores:
        rows = text_rows([chrf + each for each in noise])
        rows = [row | {"own_metric.house": house - row["chrf"] / 100} for row in rows]
        return ModelScores.of({"text": make_report(rows, "chrf", "own_metric.house")})

    inputs = DecideInputs(challenger=both(0.6, 0.2), base=both(0.3, 0.4))
    guards = {"own_metric.house": 0.05}
    decision = decide_on(work, inputs, metric="chrf", guards=guards)
    assert not decision.promote
    assert [each.holds for each in decision.guards] == [False]
    assert any("House" in reason for reason in decision.reasons)


def bleu_rows(answers: list[str]) -> list[dict[str, Any]]:
    return [
        {"row_id": f"r{at}", "group": f"g{at}", **count_ngrams(Text(answer, [RIGHT]))}
        for at, answer in enumerate(answers)
    ]


def test_the_difference_of_bleu_is_that_of_the_two_corpora(make_report: MakeReport) -> None:
    """Challenger minus opponent, and not a mean of differences of rows."""
    ours = bleu_rows([RIGHT] * 30 + ["o gato dorme na rede"] * 10)
    theirs = bleu_rows([RIGHT] * 5 + ["o gato dorme na rede"] * 35)
    found = pair_metric("bleu", make_report(ours, "bleu"), make_report(theirs, "bleu"), 500)
    values = [estimate("bleu", rows, 500).value for rows in (ours, theirs)]
    assert None not in values
    assert found.difference == pytest.approx(float(values[0] or 0) - float(values[1] or 0))
    assert found.verdict == "better" and found.n == ROWS


def test_rows_that_one_model_could_not_answer_are_in_no_comparison_of_bleu(
    make_report: MakeReport,
) -> None:
    ours, theirs = bleu_rows([RIGHT] * ROWS), bleu_rows(["a rede"] * ROWS)
    for name in ours[0].keys() - {"row_id", "group"}:
        ours[0][name] = None
    found = pair_metric("bleu", make_report(ours, "bleu"), make_report(theirs, "bleu"), 500)
    assert (found.n, found.difference) == (ROWS - 1, 1.0)
