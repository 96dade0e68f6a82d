"""What came of one trial: its line of the table, for MLflow and for the comparison's ledger."""

from __future__ import annotations

from retune.data.prepared import PreparedData
from retune.errors import RetuneError
from retune.recipe.loading import LoadedRecipe, load_recipe
from retune.records import LOG_FOLDER, AdapterRef, ModelScores
from retune.release.methods import describe_training
from retune.stages import TRAINING_STAGES
from retune.training.metrics import read_metrics
from retune.training.steps import count_sequences, count_steps
from retune.trials.results import TrialResult, add_costs, read_cost
from retune.trials.stopping import Curve, FinishedCurve, TrialStopped
from retune.trials.trials import Trial
from tasks.trying import TrialOrder, TrialRun


def finish_trial(
    run: TrialRun, data: PreparedData, adapter: AdapterRef, scores: ModelScores
) -> TrialResult:
    """Gather what a trial costs and gives, and tell MLflow and the comparison's ledger.

    Args:
        run: The trial's run.
        data: The rows.
        adapter: What was trained.
        scores: Its figures.

    Returns:
        The trial's line.
    """
    lines = [line for line in run.lines if line.name in TRAINING_STAGES]
    sealed = [run.store.manifest(line.name, line.key).provenance for line in lines]
    trained = [run.store.load(line.name, line.key, AdapterRef) for line in lines]
    curve = _read_curve(run, data, trained[0])
    name = run.order.trial.name
    run.ledger.add_finished(FinishedCurve(name=name, yardstick=run.yardstick, curve=curve))
    result = describe_trial(run.order.trial, run.loaded).model_copy(
        update={
            "state": "finished",
            "reused": any(line.state == "reused" for line in lines),
            "computed_at": str(sealed[-1].get("sealed_at", "")),
            "trainable_parameters": adapter.trainable_parameters,
            "total_parameters": adapter.total_parameters,
            "steps": adapter.steps,
            "cost": add_costs([read_cost(*each) for each in zip(trained, sealed, strict=True)]),
            # Of supervised training: that of what follows is another figure.
            "validation_loss": trained[0].validation_loss,
            "curve": curve,
            "scores": scores,
            "training_key": lines[0].key,
        }
    )
    _tell_mlflow(run, result)
    return result


def _read_curve(run: TrialRun, data: PreparedData, adapter: AdapterRef) -> Curve:
    """Return the held-out loss over the planned steps, of which early stopping spares some."""
    planned = adapter.steps
    if adapter.stopped_early:
        recipe = run.loaded.recipe
        rows = count_sequences(data.chat.side("train"), recipe.training, recipe.prompt.max_length)
        planned = max(planned, count_steps(rows, recipe.training))
    return tuple(
        (point["step"] / planned, float(point["value"]))
        for point in read_metrics(adapter.folder / LOG_FOLDER / "metrics.jsonl")
        if point["name"] == "validation_loss" and point["step"]
    )


def stop_trial(run: TrialRun, stopped: TrialStopped) -> TrialResult:
    """Describe a trial that was stopped.

    Args:
        run: The trial's run.
        stopped: Why.

    Returns:
        The trial's line.
    """
    result = describe_trial(run.order.trial, run.loaded).model_copy(
        update={"state": "stopped", "reason": stopped.reason, "training_key": run.training_key}
    )
    _tell_mlflow(run, result)
    return result


def fail_trial(order: TrialOrder, error: RetuneError) -> TrialResult:
    """Describe a trial that failed.

    Args:
        order: What was asked.
        error: Why it failed.

    Returns:
        The trial's line.
    """
    loaded = load_recipe(order.recipe, order.trial.overrides)
    return describe_trial(order.trial, loaded).model_copy(update={"reason": error.message})


def describe_trial(trial: Trial, loaded: LoadedRecipe) -> TrialResult:
    """Say what a trial is, before anything came of it."""
    recipe = loaded.recipe
    return TrialResult(
        name=trial.name,
        overrides=trial.overrides,
        state="failed",
        method=describe_training(recipe, recipe.quantization.kind),
        learning_rate=recipe.training.learning_rate,
        quantization=recipe.quantization.kind,
    )


def _tell_mlflow(run: TrialRun, result: TrialResult) -> None:
    mirror = run.mirror
    if mirror is None:
        return
    figures: dict[str, float | None] = {
        "trainable_parameters": result.trainable_parameters,
        "total_parameters": result.total_parameters,
        "validation_loss": result.validation_loss,
    }
    if result.cost is not None:
        costs = result.cost.model_dump(exclude={"device", "estimated"})
        figures |= {f"training.{name}": value for name, value in costs.items()}
    for name, metric in (result.scores.metrics() if result.scores else {}).items():
        if "." not in name:
            figures |= {name: metric.value, f"{name}.low": metric.low, f"{name}.high": metric.high}
    known = {name: float(value) for name, value in figures.items() if value is not None}
    mirror.metrics(run.parent_run, known)
    tags = {"retune.trial_state": result.state, "retune.reason": result.reason}
    training = mirror.find_training(result.training_key) if result.training_key else None
    if training is not None:
        tags["retune.training_run"] = training
        if not result.reused:
            mirror.close(training, "FINISHED" if result.state == "finished" else "KILLED")
    mirror.tags(run.parent_run, tags)
