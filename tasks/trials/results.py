"""What came of one trial: its line, told to MLflow and to the comparison's ledger."""

from __future__ import annotations

from retune.errors import RetuneError
from retune.score_records import ModelScores
from retune.trials.choosing import CHOSEN_ON
from retune.trials.lines import describe_finished, describe_trial, list_figures
from retune.trials.pruning import FinishedCurve, TrialStopped
from retune.trials.results import TrialResult
from retune.trials.trials import TrialRequest, load_trial
from tasks.runs.job import Job
from tasks.trials.run_one import OpenTrial, measured_over


def finish_trial(trial: OpenTrial, job: Job, scores: ModelScores) -> TrialResult:
    """Gather what a trial costs and gives, and tell MLflow and the comparison's ledger.

    Args:
        trial: The trial.
        job: Its run, inputs and rows.
        scores: Its figures.

    Returns:
        The trial's line.
    """
    run = trial.run
    result = describe_finished(
        trial.request.trial,
        run.recipe,
        run.lines,
        store=run.store,
        train=job.data.chat.side("train"),
        scores=scores,
    )
    loss_scope = measured_over(job)
    trial.ledger.add_finished(
        FinishedCurve(name=result.name, loss_scope=loss_scope, curve=result.curve)
    )
    _report_to_mlflow(trial, result)
    return result


def stop_trial(trial: OpenTrial, stopped: TrialStopped) -> TrialResult:
    """Describe a trial that was stopped, and tell MLflow.

    Args:
        trial: The trial.
        stopped: Why, and in which training.

    Returns:
        The trial's line.
    """
    result = describe_trial(
        trial.request.trial,
        trial.run.recipe,
        state="stopped",
        reason=stopped.reason,
        training_key=stopped.training_key,
    )
    _report_to_mlflow(trial, result)
    return result


def fail_trial(request: TrialRequest, error: RetuneError) -> TrialResult:
    """Describe a trial that failed.

    Args:
        request: What was asked.
        error: Why it failed.

    Returns:
        The trial's line.
    """
    loaded = load_trial(request.recipe, request.trial)
    kind = type(error).__name__
    return describe_trial(request.trial, loaded.recipe, reason=error.message, error=kind)


def _report_to_mlflow(trial: OpenTrial, result: TrialResult) -> None:
    run, mirror = trial.run, trial.run.mirror
    if mirror is None:
        return
    mirror.metrics(run.parent_run, list_figures(result))
    tags = {"retune.trial_state": result.state, "retune.reason": result.reason}
    tags["retune.scored_on"] = CHOSEN_ON
    training = mirror.find_training(result.training_key) if result.training_key else None
    if training is not None:
        tags["retune.training_run"] = training
        if result.state == "stopped":
            mirror.close(training, "KILLED")
    mirror.tags(run.parent_run, tags)
