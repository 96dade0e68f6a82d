"""The stage `score_sql`: a model answers each held-out question, and its SQL is judged.

Figures are those of `retune.scoring.sql.score`; each row's answer and verdict are kept.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retune.data.tables import read_rows
from retune.digests import digest_folder
from retune.inference.generation import write_answers
from retune.inference.latency import write_latency
from retune.inference.loaded_models import SLOT
from retune.modeling.tokenizer_identity import refuse_other_tokenizer
from retune.records import LOG_FOLDER
from retune.score_records import Metric, ScoreReport
from retune.scoring.outcomes import LATENCY_FILE, write_outcomes
from retune.scoring.sql.rows import read_sql_rows
from retune.scoring.sql.score import extract_sql, score_queries
from retune.scoring.sql.summary import SqlScores, summarize_sql
from retune.scoring.stages import ScoreInputs, SqlSettings
from retune.spine.stage import Workdir
from retune.sql.records import SqlLimits, SqlOutcome

SUMMARY_FILE = "summary.json"

Row = dict[str, Any]


def score_sql(inputs: ScoreInputs, settings: SqlSettings, work: Workdir) -> ScoreReport:
    """Let the model answer each held-out question, and compare its SQL with the reference.

    Args:
        inputs: Model and rows with their databases.
        settings: Length limit, dialect, time limit.
        work: `rows.jsonl` with each answer and verdict, and `summary.json` with counts by reason
            and the table by hardness, go to its artifact folder; so does how long answers took.

    Returns:
        The metrics `sql_execution_match` and `sql_exact_match`, over all rows and behind a dot for
        each class of hardness; `sql_executable_rate` and `sql_empty_result_rate` of the answers;
        `sql_nothing_floor`, what a query that returns nothing would score, and `sql_cut_tie_rate`
        of the references. A prompt over the context is unscored (`prompt_too_long`).

    Raises:
        ScoringError: The model has another tokenizer, or no SQL worker can start.
    """
    rows = _rows_with_database(read_rows(inputs.rows.folder / "rows.parquet"))
    loaded = SLOT.get(inputs.model, settings.devices)
    refuse_other_tokenizer(loaded.tokenizer, rows)
    answers = write_answers(
        loaded,
        [row["prompt_ids"] for row in rows],
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        progress=lambda done, total: work.reporter.progress("answers", done, total),
    )
    asked = [at for at, answer in enumerate(answers) if answer.text is not None]
    write_latency(
        work.artifact / LATENCY_FILE,
        loaded,
        {row["row_id"]: answer for row, answer in zip(rows, answers, strict=True)},
        batch_size=settings.batch_size,
    )
    predictions = [extract_sql(answer.text or "") for answer in answers]
    references = read_sql_rows([rows[at] for at in asked], inputs.rows)
    scores = (
        score_queries(
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
    unscored = Counter(answer.unscored_reason for answer in answers if answer.unscored_reason)
    unscored.update(scores.unscored_by_reason)
    _write_sql_summary(work.artifact, scores, unscored)
    return ScoreReport(
        digest=digest_folder(work.artifact, without=(LOG_FOLDER,)),
        folder=work.artifact,
        metrics=_sql_metrics(scores),
        rows=len(rows),
        unscored=dict(unscored),
    )


def _rows_with_database(rows: list[Row]) -> list[Row]:
    """Leave out the rows of other sources that are mixed in; they are not answered with a query."""
    return [row for row in rows if row["db_id"] is not None] or rows


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
