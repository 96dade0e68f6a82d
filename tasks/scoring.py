"""Tasks that measure a model."""

from __future__ import annotations

from typing import Any, cast

from retune.data.prepared import PreparedData
from retune.errors import ConfigError
from retune.inputs import Inputs
from retune.modeling.head_files import has_head
from retune.records import ModelScores, Role, ScoredModel, ScoreReport
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
from tasks.run import RecipeRun
from tasks.stage_task import Pending, StageTask, is_pending

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
    run: RecipeRun, role: Role, model: ScoredModel, data: PreparedData, source: Inputs
) -> ModelScores:
    """Score one model on everything, one stage after the other while it stays loaded.

    A model with a classification head is scored by its classes alone.

    Args:
        run: The current run.
        role: Which model it is.
        model: Where its parts lie.
        data: The rows; the model is scored on their test side.
        source: What the recipe names: which kind of rows, general text, probes.

    Returns:
        All reports of the model.
    """
    of: dict[str, Any] = {"role": role, "model": model}
    if _has_head(run, role, model):
        reports = _score_head(run, of, data, source)
    else:
        reports = _score_writer(run, of, data, source)
    if is_pending(list(reports.values())):
        return cast(ModelScores, Pending())
    return ModelScores.of(reports)


def _score_writer(
    run: RecipeRun, of: dict[str, Any], data: PreparedData, source: Inputs
) -> dict[str, ScoreReport | None]:
    rows, labels = data.chat.side("test"), _labels(data, source)
    reports: dict[str, ScoreReport | None] = {"perplexity": score_perplexity(run, **of, rows=rows)}
    # Beside perplexity, which asks the same of the model; shown after what is over the rows.
    general = {"general_text": score_general_text(run, **of, text=source.general_text)}
    if source.asks_sql:
        reports["sql"] = score_sql(run, **of, rows=rows)
    if source.has_labels:
        reports["labels"] = score_labels(run, **of, rows=rows, labels=labels)
    # Queries and classes are answers to show already.
    written = source.asks_sql or source.has_labels
    if source.asks_questions and not written and run.loaded.recipe.scoring.samples:
        reports["answers"] = sample_answers(run, **of, rows=rows)
    return reports | general | _probe(run, of, data, source)


def _score_head(
    run: RecipeRun, of: dict[str, Any], data: PreparedData, source: Inputs
) -> dict[str, ScoreReport | None]:
    """Score what a head can be asked: classes, and whether spoilt questions turn them."""
    _refuse_unscorable(of["role"], source)
    rows, labels = data.chat.side("test"), _labels(data, source)
    reports: dict[str, ScoreReport | None] = {
        "labels": score_labels(run, **of, rows=rows, labels=labels)
    }
    return reports | _probe_robustness(run, of, data, source)


def score_label_baselines(run: RecipeRun, data: PreparedData, source: Inputs) -> ScoreReport | None:
    """Score what any model of labels has to beat: the largest class, and a plain classifier."""
    if not source.has_labels:
        return None
    return score_baselines(
        run,
        train=data.chat.side("train"),
        rows=data.chat.side("test"),
        labels=_labels(data, source),
    )


def _probe(
    run: RecipeRun, of: dict[str, Any], data: PreparedData, source: Inputs
) -> dict[str, ScoreReport | None]:
    found: dict[str, ScoreReport | None] = {}
    if source.probes:
        found["probes"] = probe_model(run, **of, cases=source.probes, template=source.template)
    if source.counterfactuals:
        found["counterfactuals"] = probe_counterfactuals(
            run, **of, cases=source.counterfactuals, template=source.template
        )
    return found | _probe_robustness(run, of, data, source)


def _probe_robustness(
    run: RecipeRun, of: dict[str, Any], data: PreparedData, source: Inputs
) -> dict[str, ScoreReport | None]:
    probes = run.loaded.recipe.probes
    if probes is None or probes.robustness is None or not source.asks_questions:
        return {}
    report = probe_robustness(
        run,
        **of,
        rows=data.chat.side("test"),
        labels=_labels(data, source),
        paraphrases=source.paraphrases,
    )
    return {"robustness": report}


def name_labels(data: PreparedData) -> tuple[str, ...]:
    """Return the names of all classes; a plan may not know the rows yet, and so not their labels.

    Args:
        data: The rows.
    """
    return cast(tuple[str, ...], Pending()) if is_pending(list(data.rows)) else data.labels


def _labels(data: PreparedData, source: Inputs) -> tuple[str, ...]:
    labels = name_labels(data)
    return labels if source.has_labels or is_pending(labels) else ()


def _has_head(run: RecipeRun, role: Role, model: ScoredModel) -> bool:
    if is_pending(model):
        return run.loaded.recipe.head is not None and role != "base"
    return has_head(model)


def _refuse_unscorable(role: Role, source: Inputs) -> None:
    if not source.has_labels:
        raise ConfigError(
            f"the {role} has a classification head, which names classes and writes nothing, but no "
            "source of rows has labels. Compare it on rows with labels, or take the alias champion "
            "from it in the MLflow UI."
        )
