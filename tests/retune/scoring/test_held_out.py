"""Scoring on the held-out side: reports that hold what they say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from retune.data.tables import read_rows
from retune.digests import digest_folder
from retune.errors import ScoringError
from retune.inference import token_losses
from retune.inference.generation import Answer, write_answers
from retune.inference.loaded_models import SLOT
from retune.inference.text_losses import answer_losses
from retune.model_records import BaseRef
from retune.records import LOG_FOLDER, SideRef
from retune.score_records import ScoreReport
from retune.scoring import perplexity as perplexity_module
from retune.scoring.outcomes import LATENCY_FILE, read_outcomes, write_outcomes
from retune.scoring.perplexity import fit_batch, perplexity, score_perplexity
from retune.scoring.samples import sample_answers
from retune.scoring.sql import answers as answers_module
from retune.scoring.sql.answers import score_sql
from retune.scoring.stages import LossSettings, SampleSettings, ScoreInputs, SqlSettings
from retune.spine.stage import Settings, Workdir
from tests.making import make_workdir, settings_of


def section(kind: type[Settings] = LossSettings, batch_size: int = 4, **settings: Any) -> Any:
    scoring = {"max_new_tokens": 4, "resamples": 100, "runtime": {"batch_size": batch_size}}
    return settings_of(kind, scoring=scoring | settings)


def test_perplexity_is_that_of_its_rows(base: BaseRef, held_out: SideRef, work: Workdir) -> None:
    """exp(sum of NLL / sum of tokens) over the file of outcomes, end tokens included."""
    report = score_perplexity(ScoreInputs(model=base.as_scored(), rows=held_out), section(), work)
    rows, outcomes = read_rows(held_out.folder / "rows.parquet"), read_outcomes(report)
    assert [one["row_id"] for one in outcomes] == [row["row_id"] for row in rows]
    assert [one["tokens"] for one in outcomes] == [len(row["answer_ids"]) for row in rows]
    nll = math.fsum(one["nll_sum_nats"] for one in outcomes)
    by_hand = math.exp(nll / sum(one["tokens"] for one in outcomes))
    found = report.metrics["perplexity"]
    assert found.value == pytest.approx(by_hand, rel=1e-12)
    assert (found.n, report.rows, report.unscored) == (len(rows), len(rows), {})


def test_one_pass_gives_all_three_figures(base: BaseRef, held_out: SideRef, work: Workdir) -> None:
    """Each as answers alone and whole rows give it; the end token writes no bytes."""
    inputs = ScoreInputs(model=base.as_scored(), rows=held_out)
    report = score_perplexity(inputs, section(), work)
    rows, loaded = read_rows(held_out.folder / "rows.parquet"), SLOT.get(base.as_scored())
    pairs = [(row["prompt_ids"], row["answer_ids"]) for row in rows]
    joined = [[*prompt, *answer] for prompt, answer in pairs]
    sizes = [len(row["answer"].encode("utf-8")) for row in rows]
    options: dict[str, Any] = {"batch_size": 4, "pad_id": 0}
    answers = answer_losses(loaded.model, pairs, **options)
    wholes = answer_losses(loaded.model, [(ids[:1], ids[1:]) for ids in joined], **options)
    # Each answer ends with one end token: its loss is that of the last token after all others.
    ends = answer_losses(loaded.model, [(ids[:-1], ids[-1:]) for ids in joined], **options)
    texts = [a.nll_sum_nats - end.nll_sum_nats for a, end in zip(answers, ends, strict=True)]
    expected = {
        "perplexity": perplexity(answers),
        "bits_per_byte": math.fsum(texts) / math.log(2) / sum(sizes),
        "full_sequence_perplexity": perplexity(wholes),
    }
    for name, value in expected.items():
        found = report.metrics[name]
        assert found.value == pytest.approx(value, rel=1e-5)
        assert found.low is not None and found.high is not None
        assert found.low <= value <= found.high
    outcomes = read_outcomes(report)
    assert [one["answer_bytes"] for one in outcomes] == sizes
    assert [one["text_nll_nats"] for one in outcomes] == pytest.approx(texts, rel=1e-4)


def test_each_row_goes_through_the_model_once(
    base: BaseRef, held_out: SideRef, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers and whole rows are read off the same losses."""
    loaded, seen = SLOT.get(base.as_scored()), []

    class Counting:
        device, config = loaded.model.device, loaded.model.config

        def __call__(self, *, input_ids: torch.Tensor, **others: Any) -> Any:
            seen.append(len(input_ids))
            return loaded.model(input_ids=input_ids, **others)

    counting: Any = replace(loaded, model=Counting())
    slot = SimpleNamespace(get=lambda *_: counting)
    monkeypatch.setattr(perplexity_module, "SLOT", slot)
    inputs = ScoreInputs(model=base.as_scored(), rows=held_out)
    report = score_perplexity(inputs, section(), work)
    assert sum(seen) == report.rows


def test_a_large_vocabulary_makes_batches_smaller(
    base: BaseRef, held_out: SideRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every position has logits here; on a CPU too many end the process, not the batch."""
    inputs = ScoreInputs(model=base.as_scored(), rows=held_out)
    values = []
    for most in (1, 2**28):
        monkeypatch.setattr(perplexity_module, "MOST_LOGITS", most)
        report = score_perplexity(inputs, section(batch_size=8), make_workdir(tmp_path / str(most)))
        values.append(report.metrics["perplexity"].value)
    assert values[0] == pytest.approx(values[1], rel=1e-6)


@pytest.mark.parametrize(
    ("longest", "vocabulary", "on_cpu", "rows"),
    [
        (64, 4_096, True, 16),
        (64, 4_096, False, 32),
        (64, 131_072, True, 4),
        (512, 131_072, True, 1),
        (512, 131_072, False, 4),
        (4_096, 131_072, False, 1),
    ],
)
def test_a_batch_is_as_large_as_is_quick(
    longest: int, vocabulary: int, on_cpu: bool, rows: int
) -> None:
    """Of at most 32 rows: 2^22 logits on a CPU, or 256 tokens where that is more; else 2^28.

    2^22 / (64 x 2^12) = 16, and 2^28 would be 1024. With 2^17 words 2^22 is 1/2 a row of 64
    tokens, but 256 tokens are 4 rows; of 512 tokens not even one. 2^28 / (2^9 x 2^17) = 4.
    """
    found = fit_batch(32, longest=longest, vocabulary=vocabulary, on_cpu=on_cpu)
    assert found == rows


def context_of(limit: int, base: BaseRef, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model have a context of so many tokens."""
    config = SLOT.get(base.as_scored()).model.config.get_text_config()
    monkeypatch.setattr(config, "max_position_embeddings", limit)


def test_a_row_over_the_context_is_unscored(
    base: BaseRef, held_out: SideRef, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted, its figures are unknown, and the others are scored."""
    rows = read_rows(held_out.folder / "rows.parquet")
    lengths = [len(row["prompt_ids"]) + len(row["answer_ids"]) for row in rows]
    limit = sorted(lengths)[len(lengths) // 2]
    context_of(limit, base, monkeypatch)
    report = score_perplexity(ScoreInputs(model=base.as_scored(), rows=held_out), section(), work)
    long = sum(length > limit for length in lengths)
    assert long and report.unscored == {"row_too_long": long}
    assert report.metrics["perplexity"].n == len(rows) - long
    nlls = [one["nll_sum_nats"] for one in read_outcomes(report)]
    assert [nll is None for nll in nlls] == [length > limit for length in lengths]


def break_rows(lengths: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the losses of rows of these lengths be no numbers."""
    read = token_losses._batch_nlls

    def read_broken(model: Any, pairs: Any, **others: Any) -> list[list[float]]:
        found = read(model, pairs, **others)
        broken = [len(before) + len(after) in lengths for before, after in pairs]
        return [
            [math.nan, -math.inf, math.inf] if breaks else nlls
            for nlls, breaks in zip(found, broken, strict=True)
        ]

    monkeypatch.setattr(token_losses, "_batch_nlls", read_broken)


def test_a_row_whose_loss_is_no_number_is_unscored(
    base: BaseRef, held_out: SideRef, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted, its figures are unknown, and the others are scored; of many it is an error."""
    rows = read_rows(held_out.folder / "rows.parquet")
    lengths = [len(row["prompt_ids"]) + len(row["answer_ids"]) for row in rows]
    alone = next(length for length in lengths if lengths.count(length) == 1)
    inputs = ScoreInputs(model=base.as_scored(), rows=held_out)
    with monkeypatch.context() as patched:
        break_rows({alone}, patched)
        report = score_perplexity(inputs, section(), work)
    assert report.unscored == {"loss_not_finite": 1}
    assert report.metrics["perplexity"].n == len(rows) - 1
    reasons = [one["reason"] for one in read_outcomes(report)]
    assert reasons == ["loss_not_finite" if length == alone else None for length in lengths]
    break_rows(set(lengths), monkeypatch)
    with pytest.raises(ScoringError, match="its weights hold NaN"):
        score_perplexity(inputs, section(), work)


def test_no_row_fits_into_the_context(
    base: BaseRef, held_out: SideRef, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The perplexity is unknown, neither zero nor one."""
    context_of(3, base, monkeypatch)
    report = score_perplexity(ScoreInputs(model=base.as_scored(), rows=held_out), section(), work)
    assert report.unscored == {"row_too_long": report.rows}
    assert {metric.value for metric in report.metrics.values()} == {None}


def test_the_batch_size_changes_no_perplexity(
    base: BaseRef, held_out: SideRef, tmp_path: Path
) -> None:
    """It is a runtime field: not part of the key, so it must not be part of the result."""
    inputs = ScoreInputs(model=base.as_scored(), rows=held_out)
    values = [
        score_perplexity(inputs, section(batch_size=size), make_workdir(tmp_path / str(size)))
        .metrics["perplexity"]
        .value
        for size in (1, 3, 8)
    ]
    assert values == pytest.approx([values[0]] * 3, rel=1e-6)


def score_answers(
    held_out: SideRef,
    base: BaseRef,
    work: Workdir,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[dict[str, Any]], str | None],
) -> ScoreReport:
    """Score a model that gives chosen answers; None to a prompt that does not fit."""
    texts = [answer(row) for row in read_rows(held_out.folder / "rows.parquet")]
    answers = [
        Answer(text, unscored_reason="prompt_too_long" if text is None else None) for text in texts
    ]
    monkeypatch.setattr(answers_module, "write_answers", lambda *_, **__: answers)
    inputs = ScoreInputs(model=base.as_scored(), rows=held_out)
    return score_sql(inputs, section(SqlSettings), work)


def test_the_reference_answers_score_all(
    held_out: SideRef, base: BaseRef, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the rows' own databases each reference gives its own result."""
    report = score_answers(held_out, base, work, monkeypatch, lambda row: row["answer"] + ";")
    for name in ("sql_execution_match", "sql_exact_match", "sql_executable_rate"):
        assert (report.metrics[name].value, report.metrics[name].n) == (1.0, report.rows)
    assert report.unscored == {}


def test_an_answer_that_is_no_sql_is_wrong_and_not_unscored(
    held_out: SideRef, base: BaseRef, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that cannot write SQL scores zero; only a broken reference has no score."""
    report = score_answers(held_out, base, work, monkeypatch, lambda row: "não sei")
    assert report.metrics["sql_execution_match"].value == 0.0
    assert report.unscored == {}
    outcomes = read_outcomes(report)
    assert {one["sql_execution_match"] for one in outcomes} == {False}
    assert all(one["reason"] for one in outcomes)


def test_sql_is_told_apart_by_hardness(
    held_out: SideRef, base: BaseRef, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes make up the whole; the summary says which, and what was wrong."""
    report = score_answers(held_out, base, work, monkeypatch, lambda row: "SELECT 1 WHERE 0")
    classes = {
        name.split(".")[1]: metric.n
        for name, metric in report.metrics.items()
        if name.startswith("sql_execution_match.")
    }
    outcomes = read_outcomes(report)
    assert sum(classes.values()) == report.rows
    assert classes == {name: sum(one["hardness"] == name for one in outcomes) for name in classes}
    summary = json.loads((report.folder / "summary.json").read_text("utf-8"))
    assert {name: found["rows"] for name, found in summary["hardness"].items()} == classes
    wrong = sum(one["sql_execution_match"] is False for one in outcomes)
    assert sum(summary["wrong"].values()) == wrong


def test_a_query_that_returns_nothing_scores_its_floor(
    held_out: SideRef, base: BaseRef, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is what the floor means; the references whose LIMIT cuts a tie are counted beside it."""
    report = score_answers(held_out, base, work, monkeypatch, lambda row: "SELECT 1 WHERE 0")
    floor, found = report.metrics["sql_nothing_floor"], report.metrics["sql_execution_match"]
    assert (floor.value, floor.n) == (found.value, found.n)
    assert report.metrics["sql_empty_result_rate"].value == 1.0
    assert report.metrics["sql_cut_tie_rate"].n == report.rows


def test_a_prompt_over_the_context_is_unscored_sql(
    held_out: SideRef, base: BaseRef, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not wrong, since the model was never asked; the others keep their verdicts."""
    first = read_rows(held_out.folder / "rows.parquet")[0]["row_id"]
    report = score_answers(
        held_out,
        base,
        work,
        monkeypatch,
        lambda row: None if row["row_id"] == first else row["answer"],
    )
    assert report.unscored == {"prompt_too_long": 1}
    assert report.metrics["sql_execution_match"].n == report.rows - 1
    assert report.metrics["sql_execution_match"].value == 1.0
    unasked = read_outcomes(report)[0]
    assert (unasked["sql_execution_match"], unasked["reason"]) == (None, "prompt_too_long")


def test_no_prompt_fits_into_the_context(
    held_out: SideRef, base: BaseRef, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rate is unknown, none is zero."""
    report = score_answers(held_out, base, work, monkeypatch, lambda row: None)
    assert report.unscored == {"prompt_too_long": report.rows}
    assert {metric.value for metric in report.metrics.values()} == {None}


def test_samples_are_spread_over_the_side(base: BaseRef, held_out: SideRef, work: Workdir) -> None:
    """3 of 5 rows are those at 0, 5 / 3 and 10 / 3, with the answers that all rows would get."""
    rows = read_rows(held_out.folder / "rows.parquet")
    assert len(rows) == 5
    inputs = ScoreInputs(model=base.as_scored(), rows=held_out)
    report = sample_answers(inputs, section(SampleSettings, samples=3), work)
    outcomes = read_outcomes(report)
    assert [one["row_id"] for one in outcomes] == [rows[at]["row_id"] for at in (0, 1, 3)]
    loaded = SLOT.get(base.as_scored())
    answers = write_answers(
        loaded, [row["prompt_ids"] for row in rows], max_new_tokens=4, batch_size=8
    )
    assert [one["prediction"] for one in outcomes] == [answers[at].text for at in (0, 1, 3)]
    assert [one["reference"] for one in outcomes] == [rows[at]["answer"] for at in (0, 1, 3)]
    assert (report.metrics, report.rows, report.unscored) == ({}, 3, {})


@pytest.mark.parametrize(("samples", "shown"), [(0, 0), (99, 5)])
def test_no_row_is_shown_twice(
    base: BaseRef, held_out: SideRef, work: Workdir, samples: int, shown: int
) -> None:
    """More samples than rows are all rows, and none is none."""
    inputs = ScoreInputs(model=base.as_scored(), rows=held_out)
    report = sample_answers(inputs, section(SampleSettings, samples=samples), work)
    assert len({one["row_id"] for one in read_outcomes(report)}) == report.rows == shown


def test_a_random_model_is_scored_from_end_to_end(
    held_out: SideRef, base: BaseRef, work: Workdir
) -> None:
    """It writes no SQL, and every row says what it wrote."""
    inputs = ScoreInputs(model=base.as_scored(), rows=held_out)
    report = score_sql(inputs, section(SqlSettings), work)
    assert report.metrics["sql_execution_match"].value == 0.0
    assert all("prediction" in one for one in read_outcomes(report))
    # How long it took is kept beside the answers, and is no part of what was found.
    timed = json.loads((report.folder / LATENCY_FILE).read_text("utf-8"))
    assert timed["rows"].keys() == {one["row_id"] for one in read_outcomes(report)}
    assert (timed["measured"]["placement"], timed["measured"]["devices"]) == ("device", 1)
    (report.folder / LATENCY_FILE).unlink()
    assert digest_folder(report.folder, without=(LOG_FOLDER,)) == report.digest


def test_a_model_with_another_tokenizer_is_refused(
    held_out: SideRef, base: BaseRef, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows' ids would mean other words to it."""
    SLOT.clear()
    loaded = SLOT.get(base.as_scored())
    other = loaded.tokenizer.__class__.from_pretrained(base.folder)
    other.add_tokens(["SELECT", "de", "CREATE"])
    object.__setattr__(loaded, "tokenizer", other)
    inputs = ScoreInputs(model=base.as_scored(), rows=held_out)
    try:
        with pytest.raises(ScoringError, match="has another tokenizer than the base"):
            score_perplexity(inputs, section(), work)
    finally:
        SLOT.clear()


def test_a_lone_surrogate_is_written_and_read_again(tmp_path: Path) -> None:
    """It has no UTF-8, and a model's answer must not end the stage that writes it down."""
    written = {"row_id": "r", "prediction": "SELECT '\ud800é\u2028'"}
    write_outcomes(tmp_path, [written])
    report = ScoreReport(digest="", folder=tmp_path, metrics={}, rows=1, unscored={})
    assert read_outcomes(report) == [written]
