"""The flow `finetune`: a recipe in, a decision out.

Run it with ``python -m flows.finetune RECIPE``, ``retune run RECIPE``, or as a deployment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from flows.preparing import prepare_job
from retune.inputs import locate_inputs
from retune.release.summary import RunSummary
from tasks.alignment import align_model
from tasks.champion import (
    decide,
    find_champion,
    refuse_unlike_champion,
    register_model,
    score_champion,
)
from tasks.estimating import estimate_training
from tasks.modeling import check_method, make_release, quantize_model, train_model
from tasks.reporting import report_data, report_run
from tasks.run import RecipeRun
from tasks.running import open_recipe
from tasks.scoring import score_label_baselines, score_model


def name_run() -> str:
    """Name a flow run after its recipe."""
    return Path(flow_run.parameters["recipe"]).stem


def retrain(run: RecipeRun) -> RunSummary | None:
    """Retrain one model: the whole product, in order.

    Args:
        run: The current run; while it is planning, stages are looked up and not run.

    Returns:
        The run's summary; None while planning.
    """
    inputs = locate_inputs(run.loaded)

    job = prepare_job(run, inputs)
    report_data(job)
    refuse_unlike_champion(job)
    check_method(job)
    forecast = estimate_training(job)

    model = quantize_model(run, base=inputs.base, reference_text=inputs.reference_text)
    baselines = score_label_baselines(job)
    base_scores = score_model(job, "base", inputs.base.as_scored())

    adapter = train_model(job, model)
    adapter = align_model(job, adapter, model)
    adapter_scores = score_model(job, "adapter", adapter.as_scored(model, inputs.base))

    merged = make_release(job, adapter)
    merged_scores = score_model(job, "merged", merged.as_scored())

    champion = find_champion(run, merged)
    champion_scores = score_champion(job, champion)
    decision = decide(run, challenger=merged_scores, base=base_scores, champion=champion_scores)
    registered = register_model(
        run,
        merged=merged,
        decision=decision,
        champion=champion,
        rows=job.data.chat.side("test"),
        base=inputs.base,
    )
    return report_run(
        job,
        models=(model, adapter, merged),
        scores={
            "base": base_scores,
            "adapter": adapter_scores,
            "merged": merged_scores,
            "champion": champion_scores,
        },
        baselines=baselines,
        release=(decision, registered),
        estimated=forecast.memory if forecast else None,
    )


@flow(name="finetune", flow_run_name=name_run, persist_result=False)
def finetune(recipe: Path, overrides: list[str] | None = None) -> RunSummary:
    """Retrain a model by a recipe, reusing every stage whose inputs and settings are the same.

    Args:
        recipe: The recipe's YAML file; a relative path starts at the working directory.
        overrides: Settings that win over the file, such as ``training.learning_rate=1.0e-4``.

    Returns:
        The summary, which ``retune run --json`` prints.

    Raises:
        RetuneError: The recipe, the data or a stage failed; the message says what to do.
    """
    with open_recipe(recipe, overrides or []) as run:
        summary = retrain(run)
    assert summary is not None
    return summary


if __name__ == "__main__":
    print(json.dumps(finetune(Path(sys.argv[1]), sys.argv[2:]).model_dump(mode="json")))
