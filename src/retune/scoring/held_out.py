"""Scoring a model on the held-out side: perplexity of the answers, and the SQL that it writes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from retune.data.tables import read_rows
from retune.digests import digest_folder
from retune.errors import ScoringError
from retune.modeling.loading import SLOT, LoadedModel
from retune.records import Metric, ScoreReport, SideRef
from retune.requests import ScoreInputs, ScoreSection
from retune.scoring.generation import generate_answers
from retune.scoring.outcomes import write_outcomes
from retune.scoring.perplexity import answer_losses
from retune.scoring.sql.records import SqlLimits, SqlOutcome, SqlRow
from retune.scoring.sql.score import extract_sql, score_sql
from retune.scoring.uncertainty import estimate_ratio, exp_of_ratio
from retune.stage import Workdir

_ROWS_TOKENIZED = 8


def score_perplexity(inputs: ScoreInputs, section: ScoreSection, work: Workdir) -> ScoreReport:
    """Score the reference answers, as `retune.scoring.perplexity` defines it.

    Args:
        inputs: Model and rows.
        section: Bootstrap draws; the batch size changes no figure.
        work: `rows.jsonl` with NLL and tokens per row goes to its artifact folder.

    Returns:
        The metric `perplexity`.

    Raises:
        ScoringError: The model's loss is not finite.
    """
    loaded = SLOT.get(inputs.model)
    rows = read_rows(inputs.rows.folder / "rows.parquet")
    _refuse_other_tokenizer(loaded, rows)
    losses = answer_losses(
        loaded.model,
        [(row["prompt_ids"], row["answer_ids"]) for row in rows],
        batch_size=section.scoring.runtime.batch_size,
        pad_id=int(loaded.tokenizer.pad_token_id),
        progress=lambda done, total: work.reporter.progress("rows", done, total),
    )
    write_outcomes(
        work.artifact,
        (
            {
                "row_id": row["row_id"],
                "group": row["group"],
                "nll_sum_nats": loss.nll_sum_nats,
                "tokens": loss.tokens,
                "answer_bytes": len(row["answer"].encode("utf-8")),
            }
            for row, loss in zip(rows, losses, strict=True)
        ),
    )
    estimate = estimate_ratio(
        [loss.nll_sum_nats for loss in losses],
        [float(loss.tokens) for loss in losses],
        statistic=exp_of_ratio,
        groups=[row["group"] for row in rows],
        resamples=section.scoring.resamples,
    )
    return ScoreReport(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        metrics={"perplexity": estimate},
        rows=len(rows),
        unscored={},
    )


def score_generated_sql(inputs: ScoreInputs, section: ScoreSection, work: Workdir) -> ScoreReport:
    """Let the model answer each held-out question, and compare its SQL with the reference.

    Args:
        inputs: Model and rows with their databases.
        section: Length limit, dialect, time limit.
        work: `rows.jsonl` with each answer and verdict goes to its artifact folder.

    Returns:
        The metrics `sql_execution_match` and `sql_exact_match`, and rates beside them.

    Raises:
        ScoringError: A prompt does not fit into the model's context, or no SQL worker can start.
    """
    rows = read_rows(inputs.rows.folder / "rows.parquet")
    loaded = SLOT.get(inputs.model)
    _refuse_other_tokenizer(loaded, rows)
    answers = generate_answers(
        loaded,
        [row["prompt_ids"] for row in rows],
        max_new_tokens=section.scoring.max_new_tokens,
        batch_size=section.scoring.runtime.batch_size,
        progress=lambda done, total: work.reporter.progress("answers", done, total),
    )
    predictions = [extract_sql(answer) for answer in answers]
    scores = score_sql(
        _sql_rows(rows, inputs.rows),
        predictions,
        dialect=section.scoring.sql_dialect,
        limits=SqlLimits(deadline_s=section.scoring.sql_timeout_seconds),
        report_progress=lambda done, total: work.reporter.progress("queries", done, total),
    )
    write_outcomes(
        work.artifact,
        (
            _describe(row, prediction, outcome)
            for row, prediction, outcome in zip(rows, predictions, scores.outcomes, strict=True)
        ),
    )
    beside: dict[str, Metric] = {
        "sql_executable_rate": scores.executable_rate,
        "sql_empty_result_rate": scores.empty_result_rate,
    }
    return ScoreReport(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        metrics={**scores.estimates, **beside},
        rows=len(rows),
        unscored=dict(Counter(scores.unscored_by_reason)),
    )


def _refuse_other_tokenizer(loaded: LoadedModel, rows: list[dict[str, Any]]) -> None:
    """Rows were tokenized once, by the base's tokenizer; a model with another cannot read them."""
    prompts = [row["prompt"] for row in rows[:_ROWS_TOKENIZED]]
    ids = loaded.tokenizer(prompts, add_special_tokens=False)["input_ids"]
    if ids != [row["prompt_ids"] for row in rows[:_ROWS_TOKENIZED]]:
        raise ScoringError(
            "the model to score has another tokenizer than the base of this recipe (a champion of "
            "another family?), so the two cannot be compared on the same tokens. Register models "
            "of another family under another registry.model_name."
        )


def _sql_rows(rows: list[dict[str, Any]], side: SideRef) -> list[SqlRow]:
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


def _describe(row: dict[str, Any], prediction: str, outcome: SqlOutcome) -> dict[str, Any]:
    return {
        "row_id": row["row_id"],
        "group": row["group"],
        "question": row["question"],
        "reference": row["answer"],
        "prediction": prediction,
        "sql_exact_match": outcome.exact_match,
        "sql_execution_match": outcome.execution_match,
        "reason": outcome.unscored_reason or outcome.wrong_reason,
    }
