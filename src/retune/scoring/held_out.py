"""Scoring a model on the held-out side: its reference answers, the SQL it writes, samples.

Definitions are those of `retune.scoring.perplexity` and `retune.scoring.sql.score`; each row's
outcome is kept.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from retune.data.tables import read_rows
from retune.data.tokenizers import Tokenizer
from retune.digests import digest_folder
from retune.errors import ScoringError
from retune.modeling.loading import SLOT, LoadedModel
from retune.records import Metric, ScoreReport, SideRef
from retune.scoring.generation import Answer, write_answers
from retune.scoring.outcomes import write_outcomes
from retune.scoring.resampling import Statistic, bits_of_ratio, exp_of_ratio
from retune.scoring.sql.records import SqlLimits, SqlOutcome, SqlRow, SqlScores
from retune.scoring.sql.score import extract_sql, score_sql
from retune.scoring.sql.summary import summarize_sql
from retune.scoring.stages import (
    AnswerSettings,
    LossSettings,
    SampleSettings,
    ScoreInputs,
    SqlSettings,
)
from retune.scoring.token_losses import (
    LOSS_NOT_FINITE,
    RowLoss,
    context_limit,
    most_broken,
    score_tokens,
)
from retune.scoring.uncertainty import estimate_ratio
from retune.stage import Workdir

__all__ = [
    "read_sql_rows",
    "refuse_other_tokenizer",
    "sample_answers",
    "score_generated_sql",
    "score_perplexity",
]

Row = dict[str, Any]
ROW_TOO_LONG = "row_too_long"
SUMMARY_FILE = "summary.json"
_ROWS_TOKENIZED = 8
_MOST_LOGITS = 2**28
"""Numbers of one batch's logits, 1 GiB in float32; three copies of them are alive at a time."""


class RowScore(NamedTuple):
    """One row's surprise, from one forward pass."""

    answer: RowLoss
    whole: RowLoss
    """Prompt and answer, all but the first token."""


def score_perplexity(inputs: ScoreInputs, settings: LossSettings, work: Workdir) -> ScoreReport:
    """Score the reference answers, as `retune.scoring.perplexity` defines it.

    Args:
        inputs: Model and rows.
        settings: Bootstrap draws; the batch size changes no figure.
        work: `rows.jsonl` with NLL, tokens and bytes per row goes to its artifact folder.

    Returns:
        The metrics `perplexity` and `bits_per_byte` of the answers, and `full_sequence_perplexity`
        of prompts and answers. A row over the model's context is unscored (`row_too_long`), and
        so is one whose loss is no number (`loss_not_finite`), up to a tenth of all.

    Raises:
        ScoringError: The model's loss is not finite on more than a tenth of the rows, or it has
            another tokenizer.
    """
    loaded = SLOT.get(inputs.model)
    rows = read_rows(inputs.rows.folder / "rows.parquet")
    refuse_other_tokenizer(loaded.tokenizer, rows)
    scores = _score_rows(loaded, rows, settings.batch_size, work)
    write_outcomes(
        work.artifact,
        (_describe_loss(row, score) for row, score in zip(rows, scores, strict=True)),
    )
    scored = [
        (row, score) for row, score in zip(rows, scores, strict=True) if isinstance(score, RowScore)
    ]

    def estimate(losses: Sequence[tuple[float, float]], statistic: Statistic) -> Metric:
        return estimate_ratio(
            [numerator for numerator, _ in losses],
            [denominator for _, denominator in losses],
            statistic=statistic,
            groups=[row["group"] for row, _ in scored],
            resamples=settings.resamples,
        )

    answers, wholes = [one.answer for _, one in scored], [one.whole for _, one in scored]
    unscored = Counter(score for score in scores if isinstance(score, str))
    return ScoreReport(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        metrics={
            "perplexity": estimate([(a.nll_sum_nats, a.tokens) for a in answers], exp_of_ratio),
            "bits_per_byte": estimate(
                [(a.text_nll_nats, a.bytes or 0) for a in answers], bits_of_ratio
            ),
            "full_sequence_perplexity": estimate(
                [(w.nll_sum_nats, w.tokens) for w in wholes], exp_of_ratio
            ),
        },
        rows=len(rows),
        unscored=dict(unscored),
    )


def _score_rows(
    loaded: LoadedModel, rows: Sequence[Row], batch_size: int, work: Workdir
) -> list[RowScore | str]:
    """Score answers and whole rows in one pass; where that cannot be, say why."""
    limit = context_limit(loaded.model)
    lengths = [len(row["prompt_ids"]) + len(row["answer_ids"]) for row in rows]
    places = [at for at, length in enumerate(lengths) if limit is None or length <= limit]
    whole = [[*rows[at]["prompt_ids"], *rows[at]["answer_ids"]] for at in places]
    found = score_tokens(
        loaded.model,
        [(ids[:1], ids[1:]) for ids in whole],
        batch_size=_fitting_batch(loaded, max(map(len, whole), default=1), batch_size),
        pad_id=int(loaded.tokenizer.pad_token_id),
        progress=lambda done, total: work.reporter.progress("rows", done, total),
        may_break=most_broken(len(places)),
    )
    scores: list[RowScore | str] = [ROW_TOO_LONG] * len(rows)
    for at, nlls in zip(places, found, strict=True):
        scores[at] = (
            _split_row(loaded, rows[at]["answer_ids"], nlls)
            if all(map(math.isfinite, nlls))
            else LOSS_NOT_FINITE
        )
    return scores


def _fitting_batch(loaded: LoadedModel, longest: int, batch_size: int) -> int:
    # Every position needs the vocabulary here. On a CPU too large a batch is no exception that
    # could be halved: the kernel kills the process.
    vocabulary = int(loaded.model.config.get_text_config().vocab_size)
    return max(1, min(batch_size, _MOST_LOGITS // (longest * vocabulary)))


def _split_row(loaded: LoadedModel, answer_ids: Sequence[int], nlls: list[float]) -> RowScore:
    answer = nlls[-len(answer_ids) :]
    ends = answer_ids[-1] in loaded.end_ids
    text = loaded.tokenizer.decode(
        list(answer_ids)[: -1 if ends else None], clean_up_tokenization_spaces=False
    )
    return RowScore(
        answer=RowLoss(
            math.fsum(answer),
            len(answer),
            # What the tokens write: a template may trim an answer, or write thoughts before it.
            bytes=len(str(text).encode("utf-8")),
            end_nll_nats=answer[-1] if ends else 0.0,
        ),
        whole=RowLoss(math.fsum(nlls), len(nlls)),
    )


def _describe_loss(row: Row, found: RowScore | str) -> dict[str, Any]:
    score = found if isinstance(found, RowScore) else None
    return {
        "row_id": row["row_id"],
        "group": row["group"],
        "nll_sum_nats": score.answer.nll_sum_nats if score else None,
        "tokens": score.answer.tokens if score else None,
        "text_nll_nats": score.answer.text_nll_nats if score else None,
        "answer_bytes": score.answer.bytes if score else None,
        "full_nll_sum_nats": score.whole.nll_sum_nats if score else None,
        "full_tokens": score.whole.tokens if score else None,
        "reason": found if isinstance(found, str) else None,
    }


def score_generated_sql(inputs: ScoreInputs, settings: SqlSettings, work: Workdir) -> ScoreReport:
    """Let the model answer each held-out question, and compare its SQL with the reference.

    Args:
        inputs: Model and rows with their databases.
        settings: Length limit, dialect, time limit.
        work: `rows.jsonl` with each answer and verdict, and `summary.json` with counts by reason
            and the table by hardness, go to its artifact folder.

    Returns:
        The metrics `sql_execution_match` and `sql_exact_match`, over all rows and behind a dot for
        each class of hardness; `sql_executable_rate` and `sql_empty_result_rate` of the answers;
        `sql_nothing_floor`, what a query that returns nothing would score, and `sql_cut_tie_rate`
        of the references. A prompt over the context is unscored (`prompt_too_long`).

    Raises:
        ScoringError: The model has another tokenizer, or no SQL worker can start.
    """
    rows = _rows_with_database(read_rows(inputs.rows.folder / "rows.parquet"))
    loaded = SLOT.get(inputs.model)
    refuse_other_tokenizer(loaded.tokenizer, rows)
    answers = _answer(loaded, rows, settings, work)
    asked = [at for at, answer in enumerate(answers) if answer.text is not None]
    predictions = [extract_sql(answer.text or "") for answer in answers]
    references = read_sql_rows([rows[at] for at in asked], inputs.rows)
    scores = (
        score_sql(
            references,
            [predictions[at] for at in asked],
            dialect=settings.sql_dialect,
            limits=SqlLimits(deadline_s=settings.sql_timeout_seconds),
            report_progress=lambda done, total: work.reporter.progress("queries", done, total),
        )
        if asked
        else summarize_sql([], [])
    )
    outcomes = dict(zip(asked, scores.outcomes, strict=True))
    write_outcomes(
        work.artifact,
        (
            _describe_verdict(row, predictions[at], outcomes.get(at), answers[at].unscored_reason)
            for at, row in enumerate(rows)
        ),
    )
    unscored = _count_unscored(answers) + Counter(scores.unscored_by_reason)
    _write_sql_summary(work.artifact, scores, unscored)
    return ScoreReport(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        metrics=_sql_metrics(scores),
        rows=len(rows),
        unscored=dict(unscored),
    )


def _sql_metrics(scores: SqlScores) -> dict[str, Metric]:
    metrics = {
        **scores.estimates,
        "sql_executable_rate": scores.executable_rate,
        "sql_empty_result_rate": scores.empty_result_rate,
        "sql_nothing_floor": scores.nothing_floor,
        "sql_cut_tie_rate": scores.cut_tie_rate,
    }
    for hardness, found in scores.by_hardness.items():
        metrics[f"sql_execution_match.{hardness}"] = found.execution_match
        metrics[f"sql_exact_match.{hardness}"] = found.exact_match
    return metrics


def _write_sql_summary(folder: Path, scores: SqlScores, unscored: Mapping[str, int]) -> None:
    summary = {
        "unscored": unscored,
        "exact_unscored": scores.exact_unscored_by_reason,
        "wrong": scores.wrong_by_reason,
        "hardness": {
            name: found.model_dump(mode="json") for name, found in scores.by_hardness.items()
        },
    }
    text = json.dumps(summary, ensure_ascii=False, indent=2)
    (folder / SUMMARY_FILE).write_text(text + "\n", "utf-8")


def sample_answers(inputs: ScoreInputs, settings: SampleSettings, work: Workdir) -> ScoreReport:
    """Let the model answer a few questions, spread evenly over the side, for a person to read.

    Args:
        inputs: Model and rows; rows without a question (plain text) are passed over.
        settings: How many answers, and their length limit.
        work: `rows.jsonl` with question, reference and answer goes to its artifact folder.

    Returns:
        No metric: nothing is judged. A prompt over the context has no answer (`prompt_too_long`).

    Raises:
        ScoringError: The model has another tokenizer.
    """
    rows = [row for row in read_rows(inputs.rows.folder / "rows.parquet") if row["question"]]
    loaded = SLOT.get(inputs.model)
    refuse_other_tokenizer(loaded.tokenizer, rows)
    count = min(settings.samples, len(rows))
    shown = [rows[number * len(rows) // count] for number in range(count)]
    answers = _answer(loaded, shown, settings, work)
    write_outcomes(
        work.artifact,
        (
            {
                "row_id": row["row_id"],
                "group": row["group"],
                "question": row["question"],
                "reference": row["answer"],
                "prediction": answer.text or "",
                "reason": answer.unscored_reason,
            }
            for row, answer in zip(shown, answers, strict=True)
        ),
    )
    return ScoreReport(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        metrics={},
        rows=count,
        unscored=dict(_count_unscored(answers)),
    )


def _rows_with_database(rows: list[Row]) -> list[Row]:
    """Leave out the rows of other sources that are mixed in; they are not answered with a query."""
    return [row for row in rows if row["db_id"] is not None] or rows


def _answer(
    loaded: LoadedModel, rows: Sequence[Row], settings: AnswerSettings, work: Workdir
) -> list[Answer]:
    return write_answers(
        loaded,
        [row["prompt_ids"] for row in rows],
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        progress=lambda done, total: work.reporter.progress("answers", done, total),
    )


def _count_unscored(answers: Sequence[Answer]) -> Counter[str]:
    return Counter(answer.unscored_reason for answer in answers if answer.unscored_reason)


def refuse_other_tokenizer(tokenizer: Tokenizer, rows: Sequence[Row]) -> None:
    """Refuse a model that reads other words in the ids of the rows.

    Args:
        tokenizer: Of the model to score.
        rows: Of a side's `rows.parquet`; tokenized once, by the base's tokenizer.

    Raises:
        ScoringError: Its tokenizer gives the first prompts other ids.
    """
    if not rows:
        return
    prompts = [row["prompt"] for row in rows[:_ROWS_TOKENIZED]]
    ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    if ids != [row["prompt_ids"] for row in rows[:_ROWS_TOKENIZED]]:
        raise ScoringError(
            "the model to score has another tokenizer than the base of this recipe (a champion of "
            "another family?), so the two cannot be compared on the same tokens. Register models "
            "of another family under another registry.model_name."
        )


def read_sql_rows(rows: Sequence[Row], side: SideRef) -> list[SqlRow]:
    """Put rows together with the databases of their side.

    Args:
        rows: Of the side's `rows.parquet`.
        side: Its `databases.parquet` is read.

    Returns:
        One row to score per row; without a context where it names no database.
    """
    databases = {
        row["db_id"]: {"schema": row["schema"], "context": row["context"]}
        for row in read_rows(side.folder / "databases.parquet")
    }
    nothing = {"schema": "", "context": None}
    return [
        SqlRow(
            row_id=row["row_id"],
            group=row["group"],
            gold=row["answer"],
            **databases.get(row["db_id"], nothing),
        )
        for row in rows
    ]


def _describe_verdict(
    row: Row, prediction: str, outcome: SqlOutcome | None, unasked: str | None
) -> dict[str, Any]:
    described = {
        "row_id": row["row_id"],
        "group": row["group"],
        "question": row["question"],
        "reference": row["answer"],
        "prediction": prediction,
        "sql_exact_match": outcome.exact_match if outcome else None,
        "sql_execution_match": outcome.execution_match if outcome else None,
        "reason": unasked,
    }
    if outcome is None:
        return described
    return described | {
        "reason": outcome.unscored_reason or outcome.wrong_reason,
        "exact_reason": outcome.exact_unscored_reason,
        "detail": outcome.detail,
        "hardness": outcome.hardness,
        "executable": outcome.executable,
        "empty_result": outcome.empty_result,
        "gold_empty": outcome.gold_empty,
        "gold_cuts_tie": outcome.gold_cuts_tie,
    }
