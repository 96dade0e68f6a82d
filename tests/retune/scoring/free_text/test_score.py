"""The stage `score_text`: each figure from the rows' own numbers, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from retune.data.chats.tokenizers import load_tokenizer
from retune.data.schemas import CHAT_SCHEMA
from retune.data.tables import write_table
from retune.errors import ScoringError
from retune.inference.generation import Answer
from retune.model_records import BaseRef
from retune.records import SideRef
from retune.scoring.free_text.own import OwnMetric
from retune.scoring.free_text.score import estimate, judge_answers, read_answered, score_text
from retune.scoring.outcomes import read_outcomes
from retune.scoring.stages import TextMetricInputs, TextMetricSettings
from retune.spine.stage import Workdir
from tests.making import settings_of
from tests.retune.scoring.free_text.test_own import LENGTHS, write_metric

SHIPPED = ("exact_match", "token_f1", "rouge_l", "chrf", "bleu")
ANSWERS = ["o gato dorme na cama", "a praia", "", "não sei", "o rio"]
RIGHT = ["o gato dorme na rede", "A praia.", "o mar", "talvez", "o rio"]


def as_row(at: int, answer: str, **named: Any) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(CHAT_SCHEMA.names)
    return empty | {
        "row_id": f"r{at}",
        "group": f"g{at}",
        "question": f"Pergunta {at}?",
        "answer": answer,
        **named,
    }


def judged(own: Sequence[OwnMetric] = (), **first: Any) -> list[dict[str, Any]]:
    rows = [as_row(at, answer) for at, answer in enumerate(RIGHT)]
    rows[0] |= first
    answers = [Answer(text) for text in ANSWERS[:-1]]
    answers.append(Answer(None, unscored_reason="prompt_too_long"))
    return judge_answers(rows, answers, names=SHIPPED, own=own, ignored=("case", "punctuation"))


def test_a_figure_is_the_mean_of_the_rows_that_were_answered() -> None:
    """4 of 5 words are shared in the first of four; one is equal, two share nothing."""
    found = judged()
    assert [row["token_f1"] for row in found] == [pytest.approx(0.8), 1.0, 0.0, 0.0, None]
    figure = estimate("token_f1", found, 200)
    assert (figure.value, figure.n) == (pytest.approx(0.45), 4)
    assert figure.low is not None and figure.low < 0.45 < float(figure.high or 0)
    assert estimate("exact_match", found, 200).value == 0.25


def test_bleu_has_the_interval_of_drawn_rows() -> None:
    """Its value is that of the sums, which no mean of rows gives, and its interval holds it."""
    figure = estimate("bleu", judged(), 200)
    assert figure.n == 4
    assert figure.value is not None and figure.low is not None and figure.high is not None
    assert 0 <= figure.low < figure.value < figure.high <= 1


def test_an_unanswered_row_keeps_its_place_and_its_reason() -> None:
    """It has no figure at all, and is not taken for a wrong answer."""
    last = judged()[-1]
    assert last["reason"] == "prompt_too_long"
    assert {last[name] for name in (*SHIPPED[:-1], "bleu_matches_1")} == {None}


def test_each_reference_of_a_row_is_right() -> None:
    """The second is the answer, the first is what was learned."""
    first = judged(references=[RIGHT[0], ANSWERS[0]])[0]
    assert first["reference"] == RIGHT[0]
    assert first["exact_match"] == first["chrf"] == 1.0


def test_a_row_that_a_teams_metric_raises_on_lacks_that_figure_alone(tmp_path: Path) -> None:
    _, source = write_metric(tmp_path, LENGTHS.replace("'?'", "'sei'"))
    found = judged([OwnMetric("own_error.house", source, "words")])
    assert [row["own_error.house"] for row in found] == [1.0, 1.0, 0.0, None, None]
    assert found[3]["failed"] == {"own_error.house": "AssertionError: asks back"}
    assert found[3]["chrf"] is not None and found[3]["reason"] is None
    assert estimate("own_error.house", found, 200).n == 3


def write_side(base: BaseRef, folder: Path, rows: list[dict[str, Any]]) -> SideRef:
    tokenizer = load_tokenizer(base.folder)
    for row in rows:
        row["prompt"] = row["question"]
        row["prompt_ids"] = tokenizer(row["question"], add_special_tokens=False)["input_ids"]
        row["answer_ids"] = row["prompt_ids"][:2]
    folder.mkdir()
    write_table(folder / "rows.parquet", rows, CHAT_SCHEMA)
    return SideRef(digest="side", folder=folder)


def test_the_stage_writes_what_the_model_answered_and_its_figures(
    base: BaseRef, tmp_path: Path, work: Workdir
) -> None:
    """Of a random model every row has all figures; queries and classes are not asked."""
    rows = [as_row(at, answer) for at, answer in enumerate(RIGHT)]
    rows += [as_row(5, "SELECT 1", db_id="shop"), as_row(6, "sim", label="sim")]
    _, source = write_metric(tmp_path, LENGTHS.replace("'?'", "'\\0'"))
    settings = settings_of(TextMetricSettings, scoring={"max_new_tokens": 4, "resamples": 100})
    inputs = TextMetricInputs(
        model=base.as_scored(),
        rows=write_side(base, tmp_path / "side", rows),
        metrics=SHIPPED,
        own={"own_error.house": source},
        results={"own_error.house": "words"},
    )
    report = score_text(inputs, settings, work)
    assert set(report.metrics) == {*SHIPPED, "own_error.house"}
    assert (report.rows, report.unscored) == (5, {})
    outcomes = read_outcomes(report)
    assert [row["row_id"] for row in outcomes] == ["r0", "r1", "r2", "r3", "r4"]
    assert report.metrics["chrf"].value == pytest.approx(
        sum(row["chrf"] for row in outcomes) / len(outcomes)
    )


def test_a_side_without_free_text_is_refused(base: BaseRef, tmp_path: Path) -> None:
    side = write_side(base, tmp_path / "side", [as_row(0, "sim", label="sim")])
    with pytest.raises(ScoringError, match="none of the 1 held-out rows is answered in free text"):
        read_answered(side.folder)
