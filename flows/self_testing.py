"""The flow `self-test`: the gate against a model and a second scoring of the same model.

It trains, decides and registers nothing. Its stages are those of `finetune`, with the same keys:
what a run has scored is not scored again.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from flows.parameters import Overrides, RecipeFile
from flows.preparing import prepare_job
from retune.gate.self_test import SelfTest
from retune.inputs import locate_inputs
from tasks.estimating import plan_scoring
from tasks.gating import check_gate
from tasks.runs.opening import open_recipe
from tasks.self_testing import (
    find_tested_model,
    judge_scorings,
    read_as,
    score_tested,
    shuffle_and_rebatch,
)


def name_run() -> str:
    """Name a flow run after its recipe."""
    return f"self-test {Path(flow_run.parameters['recipe']).stem}"


@flow(name="self-test", flow_run_name=name_run, persist_result=False)
def self_test(recipe: RecipeFile, overrides: Overrides = (), draws: int = 20) -> SelfTest:
    """Score the champion (or the base, without one) twice, and let the gate compare the two.

    Args:
        recipe: The recipe's YAML file; a relative path starts at the working directory.
        overrides: Settings that win over the file.
        draws: Bootstrap seeds.

    Returns:
        How often the gate would have promoted the model over itself.

    Raises:
        RetuneError: The recipe, the data or a stage failed; the message says what to do.
    """
    with open_recipe(recipe, overrides, tracked=False) as run:
        job = prepare_job(run, locate_inputs(run.loaded))
        check_gate(job)
        job = plan_scoring(job)
        model = find_tested_model(job)
        job = read_as(job, model)

        first = score_tested(job, model, "first")
        second = score_tested(shuffle_and_rebatch(job), model, "second")
        return judge_scorings(job, model, first, second, draws)
