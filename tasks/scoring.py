"""Tasks that measure a model."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from retune.errors import ConfigError
from retune.modeling.head_files import has_head
from retune.records import ModelScores, ScoredModel, ScoreReport
from retune.stages import (
    PROBE_COUNTERFACTUALS,
    PROBE_MODEL,
    PROBE_ROBUSTNESS,
    SAMPLE_ANSWERS,
    SCORE_BASELINES,
    SCORE_GENERAL_TEXT,
    SCORE_LABELS,
    SCORE_PERPLEXITY,
    SCORE_SQL,
)
from tasks.job import Job
from tasks.stage_task import StageTask, combine, is_pending

Scorers = dict[str, Callable[[], ScoreReport]]
"""What makes each report of a model, by the report's name in `ModelScores`, in the order of work."""
_AFTER_ROWS = ("general_text", "probes", "counterfactuals", "robustness")

score_perplexity = StageTask(SCORE_PERPLEXITY)
score_sql = StageTask(SCORE_SQL)
score_labels = StageTask(SCORE_LABELS)
score_baselines = StageTask(SCORE_BASELINES)
sample_answers = StageTask(SAMPLE_ANSWERS)
score_general_text = StageTask(SCORE_GENERAL_TEXT)
probe_model = StageTask(PROBE_MODEL)
probe_counterfactuals = StageTask(PROBE_COUNTERFACTUALS)
probe_robustness = StageTask(PROBE_ROBUSTNESS)


def score_model(
    job: Job, role: str, model: ScoredModel, *, only: Collection[str] | None = None
) -> ModelScores:
    """Score one model on everything, one stage after the other while it stays loaded.

    A model with a classification head is scored by its classes alone.

    Args:
        job: Its held-out rows, general text and probes are what the model is scored on.
        role: Which model it is, as lines name it.
        model: Where its parts lie.
        only: Names of the reports that are made, of those that there would be; None for all.

    Returns:
        The reports of the model.

    Raises:
        ConfigError: It has a classification head, and rows have no labels.
    """
    of: dict[str, Any] = {"role": role, "model": model}
    has_classes = _has_head(job, role, model)
    if has_classes:
        _refuse_unscorable(job, role)
    scorers = _head_scorers(job, of) if has_classes else _writer_scorers(job, of)
    reports = {name: score() for name, score in scorers.items() if only is None or name in only}
    # General text is asked beside perplexity, which is alike, and shown after what is over rows.
    reports |= {name: reports.pop(name) for name in _AFTER_ROWS if name in reports}
    return combine(ModelScores.of, reports)


def score_label_baselines(job: Job) -> ScoreReport | None:
    """Score what any model of labels has to beat: the largest class, and a plain classifier."""
    if not job.inputs.has_labels:
        return None
    chat = job.data.chat
    return score_baselines(
        job.run, train=chat.side("train"), rows=chat.side("test"), labels=job.labels
    )


def _writer_scorers(job: Job, of: dict[str, Any]) -> Scorers:
    run, inputs = job.run, job.inputs
    of_rows = {**of, "rows": job.data.chat.side("test")}
    found: Scorers = {
        "perplexity": partial(score_perplexity, run, **of_rows),
        "general_text": partial(score_general_text, run, **of, text=inputs.general_text),
    }
    if inputs.asks_sql:
        found["sql"] = partial(score_sql, run, **of_rows)
    if inputs.has_labels:
        found["labels"] = partial(score_labels, run, **of_rows, labels=job.labels)
    # Queries and classes are answers to show already.
    written = inputs.asks_sql or inputs.has_labels
    if inputs.asks_questions and not written and run.recipe.scoring.samples:
        found["answers"] = partial(sample_answers, run, **of_rows)
    asked = {**of, "template": inputs.template}
    if inputs.probes:
        found["probes"] = partial(probe_model, run, **asked, cases=inputs.probes)
    if inputs.counterfactuals:
        found["counterfactuals"] = partial(
            probe_counterfactuals, run, **asked, cases=inputs.counterfactuals
        )
    return found | _robustness_scorer(job, of_rows)


def _head_scorers(job: Job, of: dict[str, Any]) -> Scorers:
    """Score what a head can be asked: classes, and whether perturbed questions turn them."""
    of_rows = {**of, "rows": job.data.chat.side("test")}
    labels: Scorers = {"labels": partial(score_labels, job.run, **of_rows, labels=job.labels)}
    return labels | _robustness_scorer(job, of_rows)


def _robustness_scorer(job: Job, of_rows: dict[str, Any]) -> Scorers:
    probes, inputs = job.run.recipe.probes, job.inputs
    if probes is None or probes.robustness is None or not inputs.asks_questions:
        return {}
    labels = job.labels if inputs.has_labels else ()
    score = partial(
        probe_robustness, job.run, **of_rows, labels=labels, paraphrases=inputs.paraphrases
    )
    return {"robustness": score}


def _has_head(job: Job, role: str, model: ScoredModel) -> bool:
    if is_pending(model):
        return job.run.recipe.head is not None and role != "base"
    return has_head(model)


def _refuse_unscorable(job: Job, role: str) -> None:
    if not job.inputs.has_labels:
        raise ConfigError(
            f"the {role} has a classification head, which names classes and writes nothing, but no "
            "source of rows has labels. Compare it on rows with labels, or take the alias champion "
            "from it in the MLflow UI."
        )
