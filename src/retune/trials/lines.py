"""One trial as a line: what it is, what it cost and gave, and the figures that MLflow shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retune.model_records import AdapterRef
from retune.preflight.steps import count_sequences, count_steps
from retune.recipe.recipe import Recipe
from retune.records import LOG_FOLDER, SideRef
from retune.release.methods import describe_training
from retune.score_records import ModelScores
from retune.scoring import showing
from retune.scoring.figures import all_figures
from retune.spine.store import Store
from retune.stages import TRAINING_STAGES
from retune.training.metrics import read_metrics
from retune.trials.choosing import choosing_gate
from retune.trials.pruning import Curve
from retune.trials.results import TrialResult, add_costs, read_cost
from retune.trials.trials import Trial
from retune.watching import StageLine

_PROBED = frozenset({"probes", "counterfactuals", "robustness"})


def list_unscored(recipe: Recipe) -> frozenset[str]:
    """Name the reports that trials are not compared by: probes, unless the gate has a floor there.

    Where probes decide, their cases are for the gate, as test rows are: nothing is chosen on them.

    Args:
        recipe: Whose gate may ask for probes.
    """
    gate = recipe.gate
    if gate.min_probe_pass_rate is not None and choosing_gate(gate) == gate:
        return _PROBED - {"probes"}
    return _PROBED


def describe_trial(trial: Trial, recipe: Recipe, **known: Any) -> TrialResult:
    """Say what a trial is, and what is known of what came of it.

    Args:
        trial: Its name and overrides.
        recipe: As the trial trains it.
        known: Further fields; without its `state` it failed.
    """
    return TrialResult(
        **{
            "name": trial.name,
            "overrides": trial.overrides,
            "state": "failed",
            "method": describe_training(recipe, recipe.quantization.kind),
            "learning_rate": recipe.training.learning_rate,
            "quantization": recipe.quantization.kind,
            **known,
        }
    )


def describe_finished(
    trial: Trial,
    recipe: Recipe,
    lines: Sequence[StageLine],
    *,
    store: Store,
    train: SideRef,
    scores: ModelScores,
) -> TrialResult:
    """Gather what a finished trial costs and gives.

    Args:
        trial: Its name and overrides.
        recipe: As the trial trained it.
        lines: Its stages, the trainings among them.
        store: Where their artifacts are.
        train: The rows that were learned from.
        scores: The figures of what was trained last.
    """
    trainings = [line for line in lines if line.name in TRAINING_STAGES]
    sealed = [store.manifest(line.name, line.key).provenance for line in trainings]
    trained = [store.load(line.name, line.key, AdapterRef) for line in trainings]
    first, last = trained[0], trained[-1]
    return describe_trial(
        trial,
        recipe,
        state="finished",
        reused=any(line.state != "ran" for line in trainings),
        computed_at=str(sealed[-1].get("sealed_at", "")),
        trainable_parameters=last.trainable_parameters,
        total_parameters=last.total_parameters,
        steps=last.steps,
        cost=add_costs([read_cost(*each) for each in zip(trained, sealed, strict=True)]),
        # Of supervised training: that of what follows is another figure.
        validation_loss=first.validation_loss,
        curve=read_curve(first, recipe, train),
        scores=scores,
        training_key=trainings[0].key,
    )


def read_curve(adapter: AdapterRef, recipe: Recipe, train: SideRef) -> Curve:
    """Return the held-out loss over the planned steps, of which early stopping spares some.

    Args:
        adapter: What was trained.
        recipe: As the trial trained it.
        train: The rows that were learned from.
    """
    planned = adapter.steps
    if adapter.stopped_early:
        rows = count_sequences(train, recipe.training, recipe.prompt.max_length)
        planned = max(planned, count_steps(rows, recipe.training))
    return tuple(
        (point["step"] / planned, float(point["value"]))
        for point in read_metrics(adapter.folder / LOG_FOLDER / "metrics.jsonl")
        if point["name"] == "validation_loss" and point["step"]
    )


def list_figures(result: TrialResult) -> dict[str, float]:
    """Return a trial's figures by the names that MLflow shows them under.

    Args:
        result: The trial's line.
    """
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
    return {name: float(value) for name, value in figures.items() if value is not None}


def as_stage_line(result: TrialResult) -> StageLine:
    """Return a trial as the line of a stage, for whoever watches the comparison.

    Args:
        result: The trial's line.
    """
    return StageLine(
        name=result.name,
        state="reused" if result.reused else "ran",
        reason=_summarize(result),
        seconds=result.cost.seconds if result.cost else 0.0,
        key=result.training_key,
    )


def _summarize(result: TrialResult) -> str:
    if result.state != "finished":
        return f"{result.state}: {result.reason.splitlines()[0] if result.reason else ''}"
    loss = "" if result.validation_loss is None else f", loss {result.validation_loss:.4f}"
    metrics = result.scores.metrics() if result.scores else {}
    shown = next(
        (each.name for each in all_figures(metrics) if each.over and each.name in metrics), None
    )
    figure = (
        f"{showing.label_of(shown)} {showing.show_metric(shown, metrics[shown])}" if shown else ""
    )
    return f"{figure}{loss}"
