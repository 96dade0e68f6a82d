"""Models that part texts into other tokens, or kept other rows: compared by what they share."""

from __future__ import annotations

from typing import Any

import pytest

from retune.errors import ScoringError
from retune.gate.pairing import pair_metric
from retune.gate.stages import DecideInputs
from retune.score_records import GateDecision, ModelScores, ScoreReport
from retune.spine.stage import Workdir
from tests.retune.gate.conftest import MakeReport, decide_on, sql_rows


def losses(nats: float, tokens: int, rows: int = 40) -> list[dict[str, Any]]:
    """Answers of 8 bytes each, their loss spread over some tokens."""
    return [
        {
            "row_id": f"r{at}",
            "group": f"g{at}",
            "nll_sum_nats": nats,
            "tokens": tokens,
            "text_nll_nats": nats,
            "answer_bytes": 8,
        }
        for at in range(rows)
    ]


def scores(make_report: MakeReport, nats: float, tokens: int) -> ModelScores:
    report = make_report(losses(nats, tokens), "perplexity", "bits_per_byte")
    return ModelScores.of({"perplexity": report})


def decide_among(
    make_report: MakeReport, work: Workdir, champion: ModelScores, **config: Any
) -> GateDecision:
    """A challenger of 2 nats in 4 tokens an answer, over a base of 8 nats in as many."""
    inputs = DecideInputs(
        challenger=scores(make_report, 2.0, 4),
        base=scores(make_report, 8.0, 4),
        champion=champion,
    )
    return decide_on(work, inputs, **config)


def test_bits_per_byte_decide_where_the_champion_counts_other_tokens(
    make_report: MakeReport, work: Workdir
) -> None:
    """4 nats in 2 tokens: perplexity e^2 against e^0.5 means nothing, bits are half as many."""
    found = decide_among(make_report, work, scores(make_report, 4.0, 2))
    assert found.promote and found.metric == "bits_per_byte"
    assert found.notes == (
        "the champion reads other tokens, so that perplexity cannot be compared with it: "
        "bits_per_byte decides",
    )
    against = {each.metric for each in found.comparisons if each.against == "champion"}
    assert against == {"bits_per_byte"}
    named = decide_among(make_report, work, scores(make_report, 4.0, 2), metric="bits_per_byte")
    assert named.promote and "perplexity cannot be compared with it" in named.notes[0]
    # With a champion of fewer bits it is refused, though its own perplexity is the lower one.
    better = decide_among(make_report, work, scores(make_report, 1.0, 1))
    assert not better.promote


def test_equal_tokens_leave_perplexity_to_decide(make_report: MakeReport, work: Workdir) -> None:
    found = decide_among(make_report, work, scores(make_report, 4.0, 4))
    assert found.promote and (found.metric, found.notes) == ("perplexity", ())


def test_perplexity_that_is_named_is_not_replaced_and_never_reads_as_passed(
    make_report: MakeReport, work: Workdir
) -> None:
    """Neither as what decides, nor as a guard."""
    champion = scores(make_report, 4.0, 2)
    found = decide_among(make_report, work, champion, metric="perplexity")
    assert not found.promote
    assert "Perplexity could not be compared with the champion" in found.reasons[0]
    assert "name gate.metric: bits_per_byte" in found.notes[0]
    guarded = decide_among(make_report, work, champion, guards={"perplexity": 1e9})
    assert not guarded.promote and not guarded.guards[0].holds


def test_a_champion_without_the_figure_is_not_beaten(
    make_report: MakeReport, work: Workdir
) -> None:
    """Its rows of SQL are missing; the base's are there, and that is not enough."""
    sql = [
        ModelScores.of({"sql": make_report(sql_rows([right] * 40), "sql_execution_match")})
        for right in (True, False)
    ]
    inputs = DecideInputs(challenger=sql[0], base=sql[1], champion=scores(make_report, 1.0, 4))
    found = decide_on(work, inputs)
    assert found.reasons == (
        "SQL execution match could not be compared with the champion, which has no such score",
    )


def test_too_few_rows_that_compare_refuse(make_report: MakeReport, work: Workdir) -> None:
    """40 rows, of which the base has no score for three: 37 are compared."""
    sides = [
        ModelScores.of({"sql": make_report(sql_rows(right), "sql_execution_match")})
        for right in ([True] * 40, [None] * 3 + [False] * 37)
    ]
    inputs = DecideInputs(challenger=sides[0], base=sides[1])
    assert decide_on(work, inputs, min_rows=37).promote
    [reason] = decide_on(work, inputs, min_rows=38).reasons
    assert reason.startswith("only 37 rows compare SQL execution match with the base, under")


def test_rows_that_one_model_cannot_read_are_left_out_of_both(make_report: MakeReport) -> None:
    """Two of 40 are 5 %, in whatever order the others come; three are too many."""

    def kept(count: int) -> ScoreReport:
        return make_report(sql_rows([False] * 40)[::-1][:count], "sql_execution_match")

    whole = make_report(sql_rows([True] * 40), "sql_execution_match")
    found = pair_metric("sql_execution_match", whole, kept(38), 200)
    assert (found.n, found.difference) == (38, 1.0)
    with pytest.raises(ScoringError, match=r"not scored on the same rows .40 and 37"):
        pair_metric("sql_execution_match", whole, kept(37), 200)
