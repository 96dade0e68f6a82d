"""Whether a challenger is worth training now: what the recipe's triggers and bounds say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from retune.registry.aliases.standing import NamedVersion
from retune.release.error_budget import ErrorBudget
from retune.retraining.approving import judge_waiting
from retune.retraining.bounds import judge_cost, judge_rhythm
from retune.retraining.contents import list_contents, read_contents
from retune.retraining.findings import Assessment, BoundFinding, TriggerFinding
from retune.retraining.triggers import (
    judge_age,
    judge_equal_sources,
    judge_new_rows,
    judge_start,
    judge_unknown_rows,
)
from tasks.champion import find_champion
from tasks.estimating import forecast_training
from tasks.retrain.degrading import find_degradation
from tasks.retrain.drifting import find_drift
from tasks.retrain.looking import Look
from tasks.runs.job import Job
from tasks.spending import look_at_budget, look_at_last_budget


def assess(look: Look, job: Job | None) -> Assessment:
    """Ask every trigger, and where one fires, every bound.

    Args:
        look: The model as it stands.
        job: The rows; None where `Look.reads_rows` says that none are needed.

    Returns:
        What they say.

    Raises:
        RetuneError: The rows are wrong, or a file or MLflow is away.
    """
    triggers = judge_triggers(look, job)
    if job is not None and not any(each.fires for each in triggers):
        triggers += tuple(_ask_model(look, job))
    if not any(each.fires for each in triggers):
        return Assessment(triggers=triggers)
    bounds = judge_held_back(look)
    if not any(each.holds_back for each in bounds) and look.asks_cost and job is not None:
        bounds += _judge_cost(look, job)
    return Assessment(triggers=triggers, bounds=bounds)


def ask_held_out_rows(assessment: Assessment, job: Job) -> Assessment:
    """Hold a training back where nothing could be promoted on the held-out rows.

    Args:
        assessment: A training is worth it by all else.
        job: The rows.

    Returns:
        The assessment with one bound more.

    Raises:
        ArtifactError: The ledger, or what is kept of earlier held-out rows, is damaged.
        ServiceError: MLflow does not answer.
    """
    bounds = (*assessment.bounds, *judge_held_out_rows(job))
    return assessment.model_copy(update={"bounds": bounds})


def judge_held_out_rows(job: Job | None) -> tuple[BoundFinding, ...]:
    """Ask whether anything could be promoted on the held-out rows.

    Args:
        job: The rows; None where nobody has read them.

    Returns:
        The bound; empty where the rows are not known.

    Raises:
        ArtifactError: The ledger, or what is kept of earlier held-out rows, is damaged.
        ServiceError: MLflow does not answer.
    """
    budget = None if job is None else look_at_budget(job)
    return _judge_budget(budget, "" if budget is None else budget.describe())


def _judge_budget(budget: ErrorBudget | None, reason: str) -> tuple[BoundFinding, ...]:
    if budget is None:
        return ()
    worn = BoundFinding(
        bound="decisions_per_test_set",
        holds_back=budget.used_up,
        reason=reason,
        figures={"decisions_left": float(budget.left)},
    )
    return (worn,)


def judge_last_rows(look: Look) -> tuple[BoundFinding, ...]:
    """Ask the same of the held-out rows of the last decision, where nobody reads those of today.

    Args:
        look: The model as it stands.

    Returns:
        The bound; empty where there was no decision, or its rows are not in this store.

    Raises:
        ArtifactError: What is kept of earlier held-out rows is damaged.
    """
    budget = look_at_last_budget(look.run, look.entries)
    told = "" if budget is None else f"as of the last decision: {budget.describe()}"
    return _judge_budget(budget, told)


def judge_triggers(look: Look, job: Job | None) -> tuple[TriggerFinding, ...]:
    """Ask every trigger that needs no model.

    Args:
        look: The model as it stands.
        job: The rows, where they are needed.
    """
    return tuple(_triggers(look, job))


def _triggers(look: Look, job: Job | None) -> Iterator[TriggerFinding]:
    triggers, champion = look.config.triggers, look.standing.champion
    yield from judge_start(
        look.model_name,
        schedule=triggers.schedule,
        force=look.force,
        again=look.again,
        champion=champion.version if champion else None,
    )
    if champion is None:
        return
    if triggers.max_age_days is not None:
        yield judge_age(triggers.max_age_days, champion.version, look.standing.since, look.at)
    if triggers.new_rows is not None:
        yield _judge_rows(look, champion, job)


def _ask_model(look: Look, job: Job) -> Iterator[TriggerFinding]:
    """Ask the triggers that may need the champion itself, one after the other until one fires."""
    triggers, champion = look.config.triggers, find_champion(look.run, None)
    if champion is None:
        return
    if triggers.drift is not None:
        drift = find_drift(job, champion)
        yield drift
        if drift.fires:
            return
    if triggers.degraded is not None:
        yield find_degradation(job, champion)


def _judge_rows(look: Look, champion: NamedVersion, job: Job | None) -> TriggerFinding:
    config = look.config.triggers.new_rows
    if look.equal_version is not None:
        return judge_equal_sources(look.equal_version, champion.version)
    rows = look.champion_rows
    if rows is None or config is None or job is None:
        return judge_unknown_rows(champion.version)
    present, tried = list_contents(job.data.clean), look.tried_rows
    before = None if tried is None else (tried[0], read_contents(tried[1]))
    return judge_new_rows(config, champion.version, read_contents(rows), present, tried=before)


def list_unasked(look: Look) -> tuple[str, ...]:
    """Return the triggers and bounds that only a model answers, so that a look alone does not ask.

    Args:
        look: The model as it stands.
    """
    config, champion = look.config, look.standing.champion
    triggers = {"drift": config.triggers.drift, "degraded": config.triggers.degraded}
    bounds = {"max_hours": config.max_hours, "max_cost": config.max_cost}
    asked = (triggers if champion else {}) | bounds
    return tuple(name for name, section in asked.items() if section is not None)


def judge_held_back(look: Look) -> tuple[BoundFinding, ...]:
    """Ask the bounds that need no model.

    Args:
        look: The model as it stands.
    """
    if look.goes_on:
        return ()
    return judge_waiting(look.dues) + judge_rhythm(look.config, look.entries, look.at)


def _judge_cost(look: Look, job: Job) -> tuple[BoundFinding, ...]:
    device = look.run.recipe.device
    # Its stages are of a moment and of no run that Prefect shows.
    direct = replace(job, run=replace(job.run, direct=True))
    forecast, _ = forecast_training(direct, device=None, timed=True)
    return judge_cost(look.config, forecast.seconds, device.price_per_hour, device.currency)
