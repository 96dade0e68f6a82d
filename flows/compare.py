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

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows.parameters import Overrides, RecipeFile
from flows.preparing import prepare_job
from retune.inputs import locate_inputs
from retune.trials.checking import Runner, choose_spreading
from retune.trials.choosing import CHOSEN_ON, refuse_no_validation
from retune.trials.lines import list_unscored
from retune.trials.pruning import TrialStopped
from retune.trials.results import TrialComparison, TrialResult
from retune.trials.space import plan_grid, probe_points, read_axes
from retune.trials.study import Search, check_search, expect_metric, identify_sweep
from retune.trials.trials import TrialRequest, identify_trials, load_trials, plan_methods
from tasks.alignment import align_model
from tasks.estimating import estimate_training, plan_memory
from tasks.modeling import check_method, quantize_model
from tasks.reporting import report_data
from tasks.runs.stage_task import heals
from tasks.scoring import score_model
from tasks.trials.comparison import OpenComparison, open_comparison, open_study, search_trials
from tasks.trials.reporting import report_comparison
from tasks.trials.results import finish_trial, stop_trial
from tasks.trials.run_one import OpenTrial, open_trial, train_watched
from tasks.trials.trial_runners import TrialOptions


def name_run() -> str:
    """Name a flow run after its flow and recipe."""
    return f"{flow_run.flow_name} {Path(flow_run.parameters['recipe']).stem}"


def train_and_score(trial: OpenTrial) -> TrialResult:
    """Take one trial through its stages.

    Args:
        trial: The trial.

    Returns:
        The trial's line.

    Raises:
        TrialStopped: It was hopeless.
    """
    run, inputs = trial.run, locate_inputs(trial.run.loaded)
    job = prepare_job(run, inputs)
    check_method(job)
    job = plan_memory(job, estimate_training(job))
    model = quantize_model(job.run, base=inputs.base, reference_text=inputs.reference_text)
    adapter = train_watched(trial, job, model)
    adapter = align_model(job, adapter, model)
    tuned = adapter.as_scored(model, inputs.base)
    # What is chosen by these figures must not be chosen on the rows that the gate decides on.
    scores = score_model(job, "adapter", tuned, without=list_unscored(run.recipe), side=CHOSEN_ON)
    return finish_trial(trial, job, scores)


@task(
    name="trial",
    task_run_name="{request.trial.name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=1,
    retry_condition_fn=heals,
)
def run_trial(request: TrialRequest) -> TrialResult:
    """Run one trial in whatever process this is.

    Args:
        request: What is asked.

    Returns:
        The trial's line; a stopped trial is no failure.
    """
    with open_trial(request) as trial:
        try:
            return train_and_score(trial)
        except TrialStopped as stopped:
            return stop_trial(trial, stopped)


@flow(name="compare", flow_run_name=name_run, persist_result=False)
def compare(
    recipe: RecipeFile,
    methods: list[str],
    overrides: Overrides = (),
    stop_hopeless: bool = False,
    runner: Runner | None = None,
    workers: int | None = None,
) -> TrialComparison:
    """Train a recipe by several methods and say what each costs and gives.

    Args:
        recipe: The recipe's YAML file; a relative path starts at the working directory.
        methods: Methods, or variants of the recipe.
        overrides: Settings that win over the file, for all trials.
        stop_hopeless: Whether a trial that falls behind the others is stopped.
        runner: dask or ray to run trials at once; None for what the recipe says.
        workers: How many at once; None for what the recipe says.

    Returns:
        The comparison, which ``retune compare --json`` prints.

    Raises:
        RetuneError: The recipe or a method is wrong, or all trials failed.
    """
    trials = plan_methods(recipe, methods, overrides)
    spreading = choose_spreading(trials[0].loaded.recipe.runner, runner, workers)
    options = TrialOptions(stop_hopeless, spreading)
    identity = identify_trials(trials)
    with open_comparison(recipe, trials, "comparison", identity, options) as comparison:
        prepare_rows(comparison)
        results = comparison.run_trials(run_trial, [each.trial for each in trials])
        return report_comparison(comparison, results)


@flow(name="sweep", flow_run_name=name_run, persist_result=False)
def sweep(
    recipe: RecipeFile,
    grid: list[str] | None = None,
    ranges: list[str] | None = None,
    search: Search | None = None,
    trials: int | None = None,
    overrides: Overrides = (),
    stop_hopeless: bool = True,
    runner: Runner | None = None,
    workers: int | None = None,
) -> TrialComparison:
    """Train a recipe with many settings and say what each costs and gives.

    Args:
        recipe: The recipe's YAML file; a relative path starts at the working directory.
        grid: Settings and their values, such as ``method.r=4,8,16``.
        ranges: Settings and their ends, such as ``training.learning_rate=1e-4..1e-2:log``.
        search: random or tpe to draw points; None for every point of the grid.
        trials: How many points a search draws.
        overrides: Settings that win over the file, for all trials.
        stop_hopeless: Whether a trial that falls behind the others is stopped.
        runner: dask or ray to run trials at once; None for what the recipe says.
        workers: How many at once; None for what the recipe says.

    Returns:
        The comparison, which ``retune sweep --json`` prints.

    Raises:
        RetuneError: The recipe or a setting is wrong, or all trials failed.
    """
    axes, shared = read_axes(grid or [], ranges or []), overrides
    count = check_search(search, trials)
    points = probe_points(axes, shared) if search else plan_grid(axes, shared)
    loaded = load_trials(recipe, points)
    identity = identify_sweep(loaded, search, axes)
    spreading = choose_spreading(loaded[0].loaded.recipe.runner, runner, workers)
    options = TrialOptions(stop_hopeless, spreading)
    with open_comparison(recipe, loaded, "sweep", identity, options) as comparison:
        prepare_rows(comparison)
        if search is None:
            results = comparison.run_trials(run_trial, [each.trial for each in loaded])
        else:
            metric = expect_metric(comparison.run.recipe, locate_inputs(loaded[0].loaded))
            study = open_study(comparison, axes, search, count, metric)
            results = search_trials(comparison, run_trial, study, metric, shared)
        return report_comparison(comparison, results)


def prepare_rows(comparison: OpenComparison) -> None:
    """Make the first trial's rows ahead, so that what is wrong with them ends all trials at once.

    Args:
        comparison: The comparison.

    Raises:
        DataError: The rows break a limit of the recipe, or none of them is for validation.
    """
    run = comparison.run
    job = prepare_job(run, locate_inputs(run.loaded))
    report_data(job)
    refuse_no_validation(job.data.chat)
    # What follows runs in processes of its own.
    run.free_memory()


if __name__ == "__main__":
    # By its name, since a trial that is sent to another process is found again by it.
    from flows.compare import compare as compare_flow

    found = compare_flow(Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3:])
    print(json.dumps(found.model_dump(mode="json")))
