"""The flows `compare` and `sweep`: one recipe with several methods or settings, side by side.

A trial is trained and scored by the stages of `finetune`, with the same keys: what a run has
trained is not trained again, and what is trained here a run need not. Nothing is merged, decided
or registered. Run them with ``retune compare``, ``retune sweep``,
``python -m flows.compare RECIPE lora,full``, or as a deployment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run

from flows.preparing import prepare_data
from retune.errors import StageDied
from retune.inputs import locate_inputs
from retune.trials.checking import Runner
from retune.trials.results import TrialResult
from retune.trials.space import plan_grid, probe_points, read_axes
from retune.trials.stopping import TrialStopped
from retune.trials.study import Search, check_search
from retune.trials.trials import load_trials, plan_methods
from tasks.aligning import align_model
from tasks.comparing import (
    Manner,
    OpenComparison,
    expect_metric,
    identify,
    identify_sweep,
    open_comparison,
    open_study,
    search_trials,
    try_trials,
)
from tasks.modeling import check_method, quantize_model
from tasks.telling import tell_data
from tasks.telling_trials import tell_comparison
from tasks.trial_results import finish_trial, stop_trial
from tasks.trying import TrialOrder, TrialRun, score_trial, train_watched, trial_run


def name_run() -> str:
    """Name a flow run after its flow and recipe."""
    return f"{flow_run.flow_name} {Path(flow_run.parameters['recipe']).stem}"


def train_and_score(run: TrialRun) -> TrialResult:
    """Take one trial through its stages.

    Args:
        run: The trial's run.

    Returns:
        The trial's line.

    Raises:
        TrialStopped: It was hopeless.
    """
    source = locate_inputs(run.loaded)
    data = prepare_data(run, source)
    check_method(run, data, source)
    model = quantize_model(run, base=source.base, reference_text=source.reference_text)
    adapter = train_watched(run, data, source, model)
    adapter = align_model(run, adapter, data, source, model)
    scores = score_trial(run, adapter.as_scored(model, source.base), data, source)
    return finish_trial(run, data, adapter, scores)


def _process_died(_: Any, __: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.data, StageDied) or "StageDied" in (state.message or "")


@task(
    name="trial",
    task_run_name="{order.trial.name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=1,
    retry_condition_fn=_process_died,
)
def try_trial(order: TrialOrder) -> TrialResult:
    """Run one trial in whatever process this is.

    Args:
        order: What is asked.

    Returns:
        The trial's line; a stopped trial is no failure.
    """
    with trial_run(order) as run:
        try:
            return train_and_score(run)
        except TrialStopped as stopped:
            return stop_trial(run, stopped)


@flow(name="compare", flow_run_name=name_run, persist_result=False)
def compare(
    recipe: Path,
    methods: list[str],
    overrides: list[str] | None = None,
    stop_hopeless: bool = False,
    runner: Runner | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Train a recipe by several methods and say what each costs and gives.

    Args:
        recipe: The recipe's YAML file; a relative path starts at the working directory.
        methods: Methods, or variants of the recipe.
        overrides: Settings that win over the file, for all trials.
        stop_hopeless: Whether a trial that falls behind the others is stopped.
        runner: dask or ray to run trials at once; None for one by one.
        workers: How many at once.

    Returns:
        The comparison that ``retune compare --json`` prints.

    Raises:
        RetuneError: The recipe or a method is wrong, or all trials failed.
    """
    trials = plan_methods(recipe, methods, overrides or [])
    manner = Manner(stop_hopeless, runner, workers)
    with open_comparison(recipe, trials, "comparison", identify(trials), manner) as comparison:
        prepare_rows(comparison)
        results = try_trials(comparison, try_trial, trials)
        return tell_comparison(comparison, trials[0].loaded, results)


@flow(name="sweep", flow_run_name=name_run, persist_result=False)
def sweep(
    recipe: Path,
    grid: list[str] | None = None,
    ranges: list[str] | None = None,
    search: Search | None = None,
    trials: int | None = None,
    overrides: list[str] | None = None,
    stop_hopeless: bool = True,
    runner: Runner | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Train a recipe with many settings and say what each costs and gives.

    Args:
        recipe: The recipe's YAML file; a relative path starts at the working directory.
        grid: Settings and their values, such as ``method.r=4,8,16``.
        ranges: Settings and their ends, such as ``training.learning_rate=1e-4..1e-2:log``.
        search: random or tpe to draw points; None for every point of the grid.
        trials: How many points a search draws.
        overrides: Settings that win over the file, for all trials.
        stop_hopeless: Whether a trial that falls behind the others is stopped.
        runner: dask or ray to run trials at once; None for one by one.
        workers: How many at once.

    Returns:
        The comparison that ``retune sweep --json`` prints.

    Raises:
        RetuneError: The recipe or a setting is wrong, or all trials failed.
    """
    axes, shared = read_axes(grid or [], ranges or []), overrides or []
    count = check_search(search, trials)
    points = probe_points(axes, shared) if search else plan_grid(axes, shared)
    loaded = load_trials(recipe, points)
    identity = identify_sweep(loaded, search, axes)
    manner = Manner(stop_hopeless, runner, workers)
    with open_comparison(recipe, loaded, "sweep", identity, manner) as comparison:
        prepare_rows(comparison)
        if search is None:
            results = try_trials(comparison, try_trial, loaded)
        else:
            metric = expect_metric(loaded[0].loaded)
            study = open_study(comparison, axes, search, count, metric)
            results = search_trials(comparison, try_trial, study, metric, shared)
        return tell_comparison(comparison, loaded[0].loaded, results)


def prepare_rows(comparison: OpenComparison) -> None:
    """Make the first trial's rows ahead, so that what is wrong with them ends all trials at once.

    Args:
        comparison: The comparison.

    Raises:
        DataError: The rows break a limit of the recipe.
    """
    run = comparison.run
    tell_data(run, prepare_data(run, locate_inputs(run.loaded)))
    # What follows runs in processes of its own.
    run.process.stop()


if __name__ == "__main__":
    # By its name, since a trial that is sent to another process is found again by it.
    from flows.compare import compare as compare_flow

    print(json.dumps(compare_flow(Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3:])))
