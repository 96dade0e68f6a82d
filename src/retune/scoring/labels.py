"""Scoring how a model puts held-out rows into classes, and what any model of them has to beat.

Predictions are those of `label_predictions`; figures, their directions and intervals those of
`classification.metrics` and `classification.calibration`; baselines those of
`classification.baselines`. Agrees with scikit-learn through them.

Excluded, and counted by reason: rows without a label (`no_label`: another task's, in no figure and
no count of rows), rows whose prompt does not fit into the context beside the longest answer
(`prompt_too_long`), rows whose label is none of the classes (`gold_not_a_label`).

torch is imported by the functions that run a model: baselines run in a process without it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retune.data.tables import read_rows
from retune.digests import digest_folder
from retune.errors import ScoringError
from retune.records import LOG_FOLDER, SideRef
from retune.score_records import Metric, ScoreReport
from retune.scoring.classification.baselines import score_plain_classifiers
from retune.scoring.classification.picture import (
    UNPARSABLE_COLUMN,
    draw_confusion_png,
    draw_confusion_svg,
)
from retune.scoring.classification.records import ClassificationRow, ClassificationScores
from retune.scoring.classification.score import score_classification
from retune.scoring.label_predictions import (
    Predictions,
    Row,
    find_label_answers,
    predict_labels,
)
from retune.scoring.outcomes import LATENCY_FILE, write_outcomes
from retune.scoring.stages import BaselineInputs, BaselineSettings, LabelInputs, LabelSettings
from retune.spine.stage import Workdir

NO_LABEL = "no_label"


def score_labels(inputs: LabelInputs, settings: LabelSettings, work: Workdir) -> ScoreReport:
    """Score which class a model puts each held-out row into.

    Args:
        inputs: Model, rows and classes.
        settings: How a class is named, bootstrap draws; the batch size changes no figure.
        work: `rows.jsonl`, `confusion.json`, `confusion.png` and `confusion.svg` go to its artifact
            folder.

    Returns:
        The figures of `score_classification`, and `label.NAME.precision`, `.recall` and `.f1` of
        each class, whose n is the class's own rows. `rows` counts the rows with a label.

    Raises:
        ScoringError: No row has a label, there are fewer than two classes, the model has another
            tokenizer, its loss is not finite, or a head knows other labels.
        ConfigError: By generation, two classes could not be told apart in a text.
    """
    from retune.inference.latency import write_latency
    from retune.inference.loaded_models import SLOT
    from retune.modeling.tokenizer_identity import refuse_other_tokenizer

    rows, others = _read_labelled(inputs.rows, "held-out")
    loaded = SLOT.get(inputs.model, settings.devices)
    refuse_other_tokenizer(loaded.tokenizer, rows)
    found = predict_labels(
        loaded,
        [row["prompt_ids"] for row in rows],
        find_label_answers(rows, inputs.labels, loaded),
        classify_by=settings.classify_by,
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        progress=lambda done, total: work.reporter.progress("answers", done, total),
    )
    scores = score_classification(
        _as_classified(rows, found.unscored_reasons),
        found.predictions,
        found.probabilities,
        [row["group"] for row in rows],
        labels=inputs.labels,
        resamples=settings.resamples,
    )
    write_outcomes(work.artifact, _describe(rows, found, scores))
    answers = dict(zip((row["row_id"] for row in rows), found.answers, strict=True))
    write_latency(work.artifact / LATENCY_FILE, loaded, answers, batch_size=settings.batch_size)
    _write_confusion(work.artifact, scores)
    return _report(
        work, {**scores.estimates, **_class_metrics(scores)}, len(rows), others, [scores]
    )


def score_baselines(
    inputs: BaselineInputs, settings: BaselineSettings, work: Workdir
) -> ScoreReport:
    """Score what any model of labels has to beat: the largest class, and TF-IDF with regression.

    Args:
        inputs: Rows to learn from, rows to score, classes.
        settings: Bootstrap draws.
        work: `rows.jsonl` with both predictions per row goes to its artifact folder.

    Returns:
        The figures of `score_classification` behind `majority.` and `tfidf_logistic_regression.`.

    Raises:
        ScoringError: No row of a side has a label, or there are fewer than two classes.
    """
    train, _ = _read_labelled(inputs.train, "training")
    rows, others = _read_labelled(inputs.rows, "held-out")
    scores = score_plain_classifiers(
        [row["question"] for row in train],
        [row["label"] for row in train],
        _as_classified(rows, [None] * len(rows)),
        [row["question"] for row in rows],
        labels=inputs.labels,
        groups=[row["group"] for row in rows],
        resamples=settings.resamples,
    )
    write_outcomes(
        work.artifact,
        (
            {"row_id": row["row_id"], "group": row["group"], "gold": row["label"]}
            | {f"{name}.predicted": one.outcomes[at].predicted for name, one in scores.items()}
            | {f"{name}.accuracy": one.outcomes[at].correct for name, one in scores.items()}
            for at, row in enumerate(rows)
        ),
    )
    metrics = {
        f"{baseline}.{name}": metric
        for baseline, one in scores.items()
        for name, metric in one.estimates.items()
    }
    return _report(work, metrics, len(rows), others, list(scores.values()))


def _read_labelled(side: SideRef, name: str) -> tuple[list[Row], int]:
    """Read a side's rows that have a label, and count the others."""
    rows = read_rows(side.folder / "rows.parquet")
    labelled = [row for row in rows if row["label"] is not None]
    if not labelled:
        raise ScoringError(
            f"none of the {len(rows)} {name} rows has a label, so classes cannot be scored. Give "
            "the side rows with labels: raise its share in split, or name a source of them."
        )
    return labelled, len(rows) - len(labelled)


def _as_classified(rows: Sequence[Row], reasons: Sequence[str | None]) -> list[ClassificationRow]:
    return [
        ClassificationRow(row_id=row["row_id"], gold=row["label"], unscored_reason=reason)
        for row, reason in zip(rows, reasons, strict=True)
    ]


def _describe(
    rows: Sequence[Row], found: Predictions, scores: ClassificationScores
) -> list[dict[str, Any]]:
    nothing: list[str | None] = [None] * len(rows)
    return [
        {
            "row_id": row["row_id"],
            "group": row["group"],
            "question": row["question"],
            "reference": row["answer"],
            "prediction": text or "",
            "gold": outcome.gold,
            "predicted": outcome.predicted,
            "probability": outcome.confidence,
            "accuracy": outcome.correct,
            "reason": outcome.unscored_reason,
            "unread_reason": unread,
        }
        for row, text, unread, outcome in zip(
            rows, found.texts, found.unread_reasons or nothing, scores.outcomes, strict=True
        )
    ]


def _class_metrics(scores: ClassificationScores) -> dict[str, Metric]:
    metrics = {}
    for one in scores.per_class:
        # n is what the class has, and not the rows that its figure was found among: a recall of
        # 1.0 on three rows should look like one.
        for name, value in (("precision", one.precision), ("recall", one.recall)):
            metrics[f"label.{one.label}.{name}"] = Metric(
                value=value, low=None, high=None, n=one.support
            )
        metrics[f"label.{one.label}.f1"] = one.f1.model_copy(update={"n": one.support})
    return metrics


def _write_confusion(folder: Path, scores: ClassificationScores) -> None:
    table = {
        "gold": scores.labels,
        "predicted": [*scores.labels, UNPARSABLE_COLUMN],
        "rows": scores.confusion,
        "labels_without_rows": scores.labels_without_rows,
    }
    text = json.dumps(table, ensure_ascii=False, indent=2)
    (folder / "confusion.json").write_text(text + "\n", "utf-8")
    (folder / "confusion.png").write_bytes(draw_confusion_png(scores.confusion, scores.labels))
    svg = draw_confusion_svg(scores.confusion, scores.labels)
    (folder / "confusion.svg").write_text(svg, "utf-8")


def _report(
    work: Workdir,
    metrics: dict[str, Metric],
    rows: int,
    others: int,
    scores: Sequence[ClassificationScores],
) -> ScoreReport:
    unscored = {NO_LABEL: others} if others else {}
    for one in scores:
        for reason, count in one.unscored_by_reason.items():
            # Two baselines leave the same row out for the same reason, which is one row.
            unscored[reason] = max(count, unscored.get(reason, 0))
    return ScoreReport(
        digest=digest_folder(work.artifact, without=(LOG_FOLDER,)),
        folder=work.artifact,
        metrics=metrics,
        rows=rows,
        unscored=unscored,
    )
