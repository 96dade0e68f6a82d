"""Tasks that measure a model."""

from __future__ import annotations

from collections.abc import Callable, Collection

from retune.errors import ConfigError
from retune.model_records import ScoredModel
from retune.modeling.head_files import has_head
from retune.records import Side, SideRef
from retune.score_records import ModelScores, ScoreReport
from retune.scoring import stages
from tasks.runs.job import Job
from tasks.runs.stage_task import StageTask, combine, is_pending

Scorers = dict[str, Callable[[], ScoreReport]]
"""What makes each report of a model, by its name in `ModelScores`, in the order of work."""
_AFTER_ROWS = ("general_text", "probes", "counterfactuals", "robustness", "shown")

score_perplexity = StageTask(stages.score_perplexity)
score_sql = StageTask(stages.score_sql)
score_labels = StageTask(stages.score_labels)
score_baselines = StageTask(stages.score_baselines)
sample_answers = StageTask(stages.sample_answers)
score_text = StageTask(stages.score_text)
check_rubrics = StageTask(stages.check_rubrics)
score_general_text = StageTask(stages.score_general_text)
probe_model = StageTask(stages.probe_model)
show_answers = StageTask(stages.show_answers)
probe_counterfactuals = StageTask(stages.probe_counterfactuals)
probe_robustness = StageTask(stages.probe_robustness)


def score_model(
    job: Job,
    role: str,
    model: ScoredModel,
    *,
    without: Collection[str] = (),
    side: Side = "test",
    adapted: bool = False,
) -> ModelScores:
    """Score one model on everything, one stage after the other while it stays loaded.

    A model with a classification head is scored by its classes alone.

    Args:
        job: Its held-out rows, general text and probes are what the model is scored on.
        role: Which model it is, as lines name it.
        model: Where its parts lie.
        without: Names of the reports that are not made.
        side: The rows that it is scored on: the held-out ones, unless something is to be chosen.
        adapted: Whether it is an adapter over the weights that it was trained over, as the role
            ``adapter`` always is.

    Returns:
        The reports of the model.

    Raises:
        ConfigError: It has a classification head, and rows have no labels.
    """
    has_classes = _has_head(job, role, model)
    model = job.hold(model, adapted=adapted or role == "adapter")
    if has_classes:
        _refuse_unscorable(job, role)
    make_scorers = _head_scorers if has_classes else _writer_scorers
    scorers = make_scorers(job, role, model, job.data.chat.side(side))
    if not is_pending(model) and model.engine is not None:
        scorers = _written_scorers(job, role, scorers)
    reports = {name: score() for name, score in scorers.items() if name not in without}
    if "text" in reports and job.run.recipe.scoring.rubrics:
        rows = job.data.chat.side(side)
        reports["rubrics"] = check_rubrics.of(role)(job.run, answers=reports["text"], rows=rows)
    # General text is asked beside perplexity, which is alike, and shown after what is over rows.
    reports |= {name: reports.pop(name) for name in _AFTER_ROWS if name in reports}
    form = "plain" if is_pending(model) else model.form
    return combine(lambda found: ModelScores.of(found, form), reports)


def score_answers(job: Job, model: ScoredModel, rows: SideRef, role: str) -> ScoreReport:
    """Score a model's answers in free text by what `scoring.text_metrics` names.

    Args:
        job: Its recipe names the metrics.
        model: Where its parts lie.
        rows: What it is asked.
        role: Which model it is, as lines name it.
    """
    scoring = job.run.recipe.scoring
    return score_text.of(role)(
        job.run,
        model=model,
        rows=rows,
        metrics=tuple(one for one in scoring.text_metrics if isinstance(one, str)),
        own=job.inputs.own_metrics,
        results={one.figure: one.result for one in scoring.own_metrics if one.result},
    )


def score_label_baselines(job: Job) -> ScoreReport | None:
    """Score what any model of labels has to beat: the largest class, and a plain classifier."""
    if not job.inputs.has_labels:
        return None
    chat = job.data.chat
    return score_baselines(
        job.run, train=chat.side("train"), rows=chat.side("test"), labels=job.labels
    )


def _writer_scorers(job: Job, role: str, model: ScoredModel, rows: SideRef) -> Scorers:
    run, inputs = job.run, job.inputs
    text, template = inputs.general_text, inputs.template
    probes, pairs = inputs.probes, inputs.counterfactuals
    found: Scorers = {
        "perplexity": lambda: score_perplexity.of(role)(run, model=model, rows=rows),
        "general_text": lambda: score_general_text.of(role)(run, model=model, text=text),
    }
    if inputs.asks_sql:
        found["sql"] = lambda: score_sql.of(role)(run, model=model, rows=rows)
    if inputs.has_labels:
        found |= _label_scorer(job, role, model, rows)
    if run.recipe.scoring.text_figures:
        found["text"] = lambda: score_answers(job, model, rows, role)
    # Queries, classes and answers that are scored are answers to show already.
    written = inputs.asks_sql or inputs.has_labels or "text" in found
    if inputs.asks_questions and not written and run.recipe.scoring.samples:
        found["answers"] = lambda: sample_answers.of(role)(run, model=model, rows=rows)
    if probes:
        found["probes"] = lambda: probe_model.of(role)(
            run, model=model, cases=probes, template=template
        )
    if pairs:
        found["counterfactuals"] = lambda: probe_counterfactuals.of(role)(
            run, model=model, cases=pairs, template=template
        )
    if run.recipe.probes is not None and run.recipe.probes.show:
        found["shown"] = lambda: show_answers.of(role)(run, model=model, template=template)
    return found | _robustness_scorer(job, role, model, rows)


def _written_scorers(job: Job, role: str, scorers: Scorers) -> Scorers:
    """Leave what an engine elsewhere can be asked: what is written, and no likelihood of a text."""
    recipe = job.run.recipe
    unheard = {"perplexity", "general_text", "counterfactuals"}
    if job.inputs.has_labels and recipe.scoring.classify_by == "likelihood":
        unheard |= {"labels", "robustness"}
    if recipe.probes is not None and recipe.probes.sampling is not None:
        unheard.add("shown")
    left = {name: score for name, score in scorers.items() if name not in unheard}
    if not left.keys() & {"sql", "labels", "text", "answers"}:
        raise ConfigError(
            f"{role}: an engine (--engine) writes answers and tells no likelihoods, and nothing "
            "that is written is scored on these rows. Name scoring.text_metrics for answers in "
            "free text, set scoring.classify_by=generation for labels, or leave --engine out."
        )
    return left


def _head_scorers(job: Job, role: str, model: ScoredModel, rows: SideRef) -> Scorers:
    """Score what a head can be asked: classes, and whether perturbed questions turn them."""
    return _label_scorer(job, role, model, rows) | _robustness_scorer(job, role, model, rows)


def _label_scorer(job: Job, role: str, model: ScoredModel, rows: SideRef) -> Scorers:
    return {
        "labels": lambda: score_labels.of(role)(job.run, model=model, rows=rows, labels=job.labels)
    }


def _robustness_scorer(job: Job, role: str, model: ScoredModel, rows: SideRef) -> Scorers:
    probes, inputs = job.run.recipe.probes, job.inputs
    if probes is None or probes.robustness is None or not inputs.asks_questions:
        return {}
    return {
        "robustness": lambda: probe_robustness.of(role)(
            job.run,
            model=model,
            rows=rows,
            labels=job.labels if inputs.has_labels else (),
            paraphrases=inputs.paraphrases,
        )
    }


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
