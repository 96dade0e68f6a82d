"""The stage `score_text`: a model answers each held-out question in free text, and is compared.

Figures of one row each are means over rows; BLEU is of all rows together, and its interval is the
bootstrap's over the same sums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from retune.data.tables import read_rows
from retune.digests import digest_folder
from retune.errors import ScoringError
from retune.inference.generation import Answer, write_answers
from retune.inference.latency import write_latency
from retune.inference.loaded_models import SLOT
from retune.modeling.tokenizer_identity import refuse_other_tokenizer
from retune.records import LOG_FOLDER
from retune.score_records import Metric, ScoreReport
from retune.scoring.figures import BLEU_COLUMNS, figure_of
from retune.scoring.free_text.corpus_bleu import bleu_of_sums
from retune.scoring.free_text.own import Scorer, score_all
from retune.scoring.free_text.own_process import MetricProcess
from retune.scoring.free_text.shipped import BY_ROW, Normalisers, Text, count_ngrams
from retune.scoring.outcomes import LATENCY_FILE, write_outcomes
from retune.scoring.stages import TextMetricInputs, TextMetricSettings
from retune.scoring.uncertainty.estimates import estimate_rate, estimate_ratio, estimate_table
from retune.spine.stage import Workdir

Row = dict[str, Any]


def score_text(
    inputs: TextMetricInputs, settings: TextMetricSettings, work: Workdir
) -> ScoreReport:
    """Let the model answer each question in free text, and compare answers with references.

    Args:
        inputs: Model, rows and metrics; rows of queries and of classes are passed over.
        settings: How answers are written, normalisers, bootstrap draws.
        work: `rows.jsonl` with each answer and its figures goes to its artifact folder; so does how
            long answers took.

    Returns:
        The figures that were asked for. A prompt over the context is unscored (`prompt_too_long`);
        a row on which a metric of the team raised has no value of that metric alone.

    Raises:
        ScoringError: No row is answered in free text, the model has another tokenizer, or a metric
            of the team cannot be loaded, fails on every row, or hangs or dies on several.
    """
    with ExitStack() as processes:
        # Before the answers, which cost more.
        own = [
            processes.enter_context(MetricProcess(figure, source, inputs.results.get(figure)))
            for figure, source in inputs.own.items()
        ]
        return _score(inputs, settings, work, own)


def _score(
    inputs: TextMetricInputs,
    settings: TextMetricSettings,
    work: Workdir,
    own: Sequence[Scorer],
) -> ScoreReport:
    rows = read_answered(inputs.rows.folder)
    loaded = SLOT.get(inputs.model, settings.devices)
    refuse_other_tokenizer(loaded.tokenizer, rows)
    answers = write_answers(
        loaded,
        [row["prompt_ids"] for row in rows],
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        progress=lambda done, total: work.reporter.progress("answers", done, total),
    )
    write_latency(
        work.artifact / LATENCY_FILE,
        loaded,
        {row["row_id"]: answer for row, answer in zip(rows, answers, strict=True)},
        batch_size=settings.batch_size,
    )
    outcomes = judge_answers(
        rows, answers, names=inputs.metrics, own=own, ignored=settings.text_normalisers
    )
    write_outcomes(work.artifact, outcomes)
    figures = [*inputs.metrics, *inputs.own]
    unscored = Counter(row["reason"] for row in outcomes if row["reason"])
    unscored.update(f"{name}_failed" for row in outcomes for name in row["failed"])
    return ScoreReport(
        digest=digest_folder(work.artifact, without=(LOG_FOLDER,)),
        folder=work.artifact,
        metrics={name: estimate(name, outcomes, settings.resamples) for name in figures},
        rows=len(rows),
        unscored=dict(unscored),
    )


def read_answered(folder: Path) -> list[Row]:
    """Read the rows of a side that are answered in free text.

    Raises:
        ScoringError: There is none.
    """
    rows = list(read_rows(folder / "rows.parquet"))
    found = [
        row for row in rows if row["question"] and row["db_id"] is None and row["label"] is None
    ]
    if not found:
        raise ScoringError(
            f"scoring.text_metrics, scoring.rubrics: none of the {len(rows)} held-out rows is "
            "answered in free text. Hold out rows that are (data.test, or the shares of split), or "
            "remove it."
        )
    return found


def judge_answers(
    rows: Sequence[Row],
    answers: Sequence[Answer],
    *,
    names: Sequence[str],
    own: Sequence[Scorer],
    ignored: Normalisers,
) -> list[Row]:
    """Compare answers with their references.

    Args:
        rows: With `answer`, and `references` where there are several.
        answers: What the model wrote, in their order.
        names: Metrics that ship.
        own: Metrics of the team.
        ignored: Normalisers.

    Returns:
        A row of `rows.jsonl` each: every figure under its name, None where there is none, BLEU as
        the counts that it sums; `failed` has the team's metrics that raised, with what they said.
    """
    texts = {
        at: Text(answer.text, references_of(row))
        for at, (row, answer) in enumerate(zip(rows, answers, strict=True))
        if answer.text is not None
    }
    judged = {
        each.figure: dict(zip(texts, score_all(each, [*texts.values()]), strict=True))
        for each in own
    }
    outcomes = []
    for at, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        scores = {name: found[at] for name, found in judged.items() if at in found}
        outcomes.append(
            {
                "row_id": row["row_id"],
                "group": row["group"],
                "question": row["question"],
                "reference": row["answer"],
                "references": references_of(row),
                "prediction": answer.text or "",
                "reason": answer.unscored_reason,
                **dict.fromkeys(judged),
                **{name: each.value for name, each in scores.items()},
                "failed": {name: each.reason for name, each in scores.items() if each.reason},
                **_judge(texts.get(at), names, ignored),
            }
        )
    return outcomes


def references_of(row: Mapping[str, Any]) -> list[str]:
    """Return all that a row accepts as answer, what is learned first."""
    return list(row.get("references") or [row["answer"]])


def _judge(text: Text | None, names: Sequence[str], ignored: Normalisers) -> Row:
    found: Row = {}
    for name in names:
        if name in BY_ROW:
            found[name] = None if text is None else BY_ROW[name](text, ignored)
        else:
            found |= dict.fromkeys(BLEU_COLUMNS) if text is None else count_ngrams(text)
    return found


def estimate(name: str, outcomes: Sequence[Row], resamples: int) -> Metric:
    """Make a figure and its interval of the rows that have it.

    Args:
        name: The figure.
        outcomes: Rows of `judge_answers`.
        resamples: Bootstrap draws.

    Returns:
        The mean over rows, or of BLEU that of their sums; value None where no row has it.
    """
    figure = figure_of(name)
    column = figure.columns[0] if figure.columns else name
    scored = [row for row in outcomes if row[column] is not None]
    groups = [row["group"] for row in scored]
    if figure.statistic == "bleu":
        table = [[row[each] for each in figure.columns] for row in scored]
        return estimate_table(
            table, bleu_of_sums, groups=groups, resamples=resamples, limits=(0.0, 1.0)
        )
    values = [row[name] for row in scored]
    if name == "exact_match":
        yes = [bool(value) for value in values]
        return estimate_rate(yes, groups=groups, resamples=resamples)
    return estimate_ratio(values, groups=groups, resamples=resamples)
