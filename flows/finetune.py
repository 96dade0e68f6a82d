"""The flow `finetune`: a recipe in, a decision out.

Run it with ``python -m flows.finetune RECIPE``, ``retune run RECIPE``, or as a deployment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from flows.parameters import Overrides, RecipeFile
from flows.preparing import prepare_job
from retune.inputs import locate_inputs
from retune.release.summary import RunSummary
from tasks.alignment import align_model
from tasks.champion import (
    Scores,
    decide_release,
    find_champion,
    refuse_unlike_champion,
    register_release,
    score_champion,
    settle_champion,
)
from tasks.estimating import estimate_training, plan_memory
from tasks.foreseeing import refuse_unfit_disk
from tasks.gating import check_gate
from tasks.judging import check_judge, judge_release
from tasks.modeling import check_method, make_release, quantize_model, train_model
from tasks.overview import report_overview
from tasks.remembering import remember_rows, remember_version
from tasks.reporting import report_data, report_run
from tasks.runs.opening import open_recipe
from tasks.runs.run import RecipeRun
from tasks.scoring import score_label_baselines, score_model
from tasks.spending import budget_decision, warn_of_worn_rows
from tasks.starting import choose_start


def name_run() -> str:
    """Name a flow run after its recipe."""
    return Path(flow_run.parameters["recipe"]).stem


def train_challenger(run: RecipeRun) -> RunSummary | None:
    """Train one challenger: the whole product, in order.

    Args:
        run: The current run; while it is planning, stages are looked up and not run.

    Returns:
        The run's summary; None while planning.
    """
    inputs = locate_inputs(run.loaded)
    settle_champion(run)

    job = prepare_job(run, inputs)
    job = choose_start(job)
    report_data(job)
    refuse_unlike_champion(job)
    warn_of_worn_rows(job)
    power = check_gate(job)
    check_method(job)
    forecast = estimate_training(job)
    job = plan_memory(job, forecast, judged=True)
    refuse_unfit_disk(job, forecast)
    agreement = check_judge(job)

    model = quantize_model(job.run, base=inputs.base, reference_text=inputs.reference_text)
    baselines = score_label_baselines(job)
    base_scores = score_model(job, "base", inputs.base.as_scored())

    adapter = train_model(job, model)
    adapter = align_model(job, adapter, model)
    adapter_scores = score_model(job, "adapter", adapter.as_scored(model, inputs.base))

    merged = make_release(job, adapter)
    merged_scores = score_model(job, "merged", merged.as_scored())

    champion = find_champion(run, merged)
    champion_scores = score_champion(job, champion)
    scores: Scores = {
        "base": base_scores,
        "adapter": adapter_scores,
        "merged": merged_scores,
        "champion": champion_scores,
    }
    scores = judge_release(job, merged, champion, scores, agreement)
    budget = budget_decision(job, merged, champion, scores)
    decision = decide_release(job, merged, champion, scores, budget)
    remember_rows(job, merged)
    registered = register_release(job, adapter, merged, decision, champion, scores)
    remember_version(job, adapter=adapter, merged=merged, decision=decision, registered=registered)
    report_overview(run)
    return report_run(
        job,
        models=(model, adapter, merged),
        scores=scores,
        baselines=baselines,
        release=(decision, registered),
        estimated=forecast.memory if forecast else None,
        budget=budget,
        power=power,
    )


@flow(name="finetune", flow_run_name=name_run, persist_result=False)
def finetune(recipe: RecipeFile, overrides: Overrides = ()) -> RunSummary:
    """Retrain a model by a recipe, reusing every stage whose inputs and settings are the same.

    Args:
        recipe: The recipe's YAML file; a relative path starts at the working directory.
        overrides: Settings that win over the file, such as ``training.learning_rate=1.0e-4``.

    Returns:
        The summary, which ``retune run --json`` prints.

    Raises:
        RetuneError: The recipe, the data or a stage failed; the message says what to do.
    """
    with open_recipe(recipe, overrides) as run:
        summary = train_challenger(run)
    assert summary is not None
    return summary


if __name__ == "__main__":
    print(json.dumps(finetune(Path(sys.argv[1]), sys.argv[2:]).model_dump(mode="json")))
