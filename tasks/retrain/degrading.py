"""Tasks of the trigger `degraded`: the champion on newer rows, against those that promoted it."""

from __future__ import annotations

from dataclasses import replace

from retune.data.prepared import PreparedData
from retune.data.sources import locate_rows
from retune.errors import ConfigError
from retune.inputs import RowInput, display_names
from retune.model_records import ChampionRef, ScoredModel
from retune.records import SideRef
from retune.retraining import stages
from retune.retraining.degradation import judge_degradation, judge_no_newer_rows
from retune.retraining.findings import TriggerFinding
from retune.retraining.known_rows import find_asked
from retune.score_records import ScoreReport
from retune.scoring.figures import figure_of, figure_that_decides
from tasks.champion import read_as_champion
from tasks.data import (
    clean_rows,
    format_sources,
    load_databases,
    load_sources,
    prepare_sides,
)
from tasks.estimating import plan_scoring
from tasks.remembering import history_of
from tasks.runs.job import Job
from tasks.runs.stage_task import StageTask, is_pending
from tasks.scoring import score_answers, score_labels, score_perplexity, score_sql

KEY = "retrain.triggers.degraded.rows"
"""Where the recipe names the newer rows, for messages."""

_ROLE = "newer"

leave_out_known = StageTask(stages.leave_out_known)


def find_degradation(job: Job, champion: ChampionRef) -> TriggerFinding:
    """Ask whether the champion is worse on newer labelled rows than on those that promoted it.

    The newer rows go through the stages that the recipe's rows go through. The champion's answers
    to the older ones are those of its promotion, found again by their stage key.

    Args:
        job: Its recipe names the newer rows; its rows are those that the champion knows.
        champion: The champion.

    Returns:
        Whether to retrain for it, and why. While planning, what a plan can know.

    Raises:
        ConfigError: The newer rows are of a kind that lacks the deciding figure.
        DataError: Their file is not there, or none of them can be read or written as a chat.
    """
    recipe = job.run.recipe
    config = recipe.retrain.triggers.degraded
    if config is None:
        reason = "degradation is not asked for"
        return TriggerFinding(trigger="degraded", fires=False, reason=reason)
    metric = choose_metric(job)
    newer = load_newer(job, metric)
    if is_pending(newer.data.split):
        return _not_planned()
    if not newer.data.split.test:
        return judge_no_newer_rows(newer.data.rows[0].rows)
    held = plan_scoring(job).hold(champion.as_scored(), adapted=False)
    reports = []
    for each, role in ((job, "champion"), (newer, "champion, newer rows")):
        rows = read_as_champion(each, champion).data.chat.side("test")
        reports.append(_score(job, held, metric, rows, role))
    if is_pending(reports):
        return _not_planned()
    return judge_degradation(
        metric,
        *reports,
        loss=config.loss,
        resamples=recipe.scoring.resamples,
        asked_then=find_asked(job.data.split, job.data.earlier),
    )


def choose_metric(job: Job) -> str:
    """Return the figure that decides over rows: the gate's, or the usual one of the rows.

    Args:
        job: Its recipe may name a figure; its inputs say which kinds of rows there are.
    """
    named = job.run.recipe.gate.metric
    if named is not None and figure_of(named).over == "rows" and not figure_of(named).of_pairs:
        return named
    kinds = {row.located.format for row in job.inputs.rows}
    return figure_that_decides(lambda each: each.rows is None or each.rows in kinds)


def load_newer(job: Job, metric: str) -> Job:
    """Return the job with newer rows that the champion does not know, in place of its own.

    Args:
        job: Its recipe names them.
        metric: The figure that decides.

    Raises:
        ConfigError: They lack that figure.
        DataError: Their file is not there, or no row can be read.
    """
    run, recipe = job.run, job.run.recipe
    config = recipe.retrain.triggers.degraded
    assert config is not None
    # As the recipe's first source is read: newer rows come from where it came from.
    source = recipe.data.train[0].model_copy(
        update={"path": config.rows, "hub": None, "max_rows": None, "weight": None}
    )
    located = locate_rows(source, recipe.data, run.loaded.resolve, KEY)
    needed = figure_of(metric).rows
    if needed is not None and located.format != needed:
        raise ConfigError(
            f"{KEY}: {config.rows} is {located.format}, but {metric} decides, which {needed} has. "
            "Name newer rows of the kind that data.train has."
        )
    one = RowInput(located=located, key=f"data.{_ROLE}.0", held_out=False, weight=None)
    inputs = replace(job.inputs, rows=(one,))
    databases = load_databases(run, source=inputs.databases) if inputs.databases else None
    rows = load_sources(run, inputs, databases)
    # Named apart: a run may prepare its own rows as well, and is known by the keys of both.
    clean = clean_rows.of(_ROLE)(
        run,
        rows=rows,
        weights=(None,),
        held_out=(False,),
        names=(display_names(located.source, run.loaded.root),),
    )
    split = leave_out_known(run, newer=clean, split=job.data.split, history=history_of(job))
    data = PreparedData(rows, clean, split, job.data.chat)
    if not is_pending(split) and not split.test:
        return replace(job, inputs=inputs, data=data)
    chats = format_sources(run, inputs, rows, databases, inputs.base)
    chat = prepare_sides.of(_ROLE)(
        run, split=split, rows=rows, chats=chats, databases=databases, base=inputs.base
    )
    return replace(job, inputs=inputs, data=replace(data, chat=chat))


def _score(job: Job, model: ScoredModel, metric: str, rows: SideRef, role: str) -> ScoreReport:
    """Score the champion by what decides alone, and by the same classes on all rows."""
    kind = figure_of(metric).rows
    if kind == "text_to_sql":
        return score_sql.of(role)(job.run, model=model, rows=rows)
    if kind == "text_label":
        return score_labels.of(role)(job.run, model=model, rows=rows, labels=job.labels)
    if figure_of(metric).of_answers:
        return score_answers(job, model, rows, role)
    return score_perplexity.of(role)(job.run, model=model, rows=rows)


def _not_planned() -> TriggerFinding:
    reason = "not known before the champion has been scored on newer rows"
    return TriggerFinding(trigger="degraded", fires=False, reason=reason)
