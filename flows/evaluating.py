"""The flow `evaluate`: any models side by side on a recipe's held-out rows.

It trains, decides and registers nothing. Its stages are those of `finetune`, with the same keys:
what a run has scored is not scored again, and what is scored here a run need not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from flows.parameters import Overrides, RecipeFile
from flows.preparing import prepare_job
from retune.inputs import locate_inputs
from retune.recipe.sections.prompt import Effort
from retune.release.comparing import ModelComparison, ScoredCandidate
from retune.serving.messages import RemoteSettings
from tasks.engines import move_to_engine
from tasks.estimating import plan_memory
from tasks.evaluating import (
    ask_with_effort,
    find_models,
    prepare_for,
    put_on_weights,
    refuse_unknown_efforts,
    report_evaluation,
    score_candidate,
)
from tasks.reporting import report_data
from tasks.runs.opening import open_recipe


def name_run() -> str:
    """Name a flow run after its recipe."""
    return f"evaluate {Path(flow_run.parameters['recipe']).stem}"


@flow(name="evaluate", flow_run_name=name_run, persist_result=False)
def evaluate(
    recipe: RecipeFile,
    models: list[str],
    overrides: Overrides = (),
    out: Path | None = None,
    efforts: Sequence[Effort] = (),
    engine: RemoteSettings | None = None,
    also_here: bool = False,
) -> ModelComparison:
    """Score models on the held-out rows of a recipe, and compare each with the first.

    Args:
        recipe: The recipe's YAML file; a relative path starts at the working directory.
        models: Each `base`, a folder (model or adapter), a hub id, or `models:/name@alias`.
        overrides: Settings that win over the file, such as ``scoring.samples=5``.
        out: Folder of the pages; None for one below the store's `reports`.
        efforts: How much each model shall think, side by side; none for what the recipe says.
        engine: The server that writes the models' answers; None for this machine.
        also_here: Score them on this machine too, and compare what the engine answers with that.

    Returns:
        The comparison, which ``retune evaluate --json`` prints.

    Raises:
        RetuneError: The recipe, a model, the data or a stage failed; the message says what to do.
    """
    with open_recipe(recipe, overrides, tracked=False) as run:
        inputs = locate_inputs(run.loaded, with_weights=False)
        found = find_models(run, models)
        if engine is not None:
            there = move_to_engine(run, models, found, engine)
            found = [*found, *there] if also_here else there

        job = prepare_job(run, inputs)
        report_data(job)
        refuse_unknown_efforts(job, found, efforts)
        if any(model.scored.engine is None for model in found):
            job = plan_memory(job)

        evaluated: list[ScoredCandidate] = []
        for model in found:
            weighted = put_on_weights(job, model)
            for effort in efforts:
                own, likeness = ask_with_effort(job, model, effort)
                evaluated.append(score_candidate(own, weighted, likeness, effort))
            if not efforts:
                own, likeness = prepare_for(job, model)
                evaluated.append(score_candidate(own, weighted, likeness))
        return report_evaluation(job, evaluated, out)
