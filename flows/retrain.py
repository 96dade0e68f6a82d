"""The flow `retrain`: look whether it is worth it, train a challenger, promote it on evidence.

A scheduler may start it as often as it likes: what is not worth a training ends as ``Skipped``,
with the reason, and nothing computed. Run it with ``retune retrain RECIPE``, or as a deployment.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.flow_runs import suspend_flow_run
from prefect.runtime import flow_run

from flows.finetune import train_challenger
from flows.parameters import Overrides, RecipeFile
from flows.preparing import prepare_job
from retune.retraining.summary import RetrainSummary
from tasks.retrain.approval import Answer, act_on, ask, find_asked, settle_approval
from tasks.retrain.looking import look_around
from tasks.retrain.outcomes import conclude, end_as, skip, telling_failure
from tasks.retrain.triggers import ask_held_out_rows, assess
from tasks.runs.left_runs import end_left_runs
from tasks.runs.opening import open_recipe


def name_run() -> str:
    """Name a flow run after its recipe."""
    return f"retrain {Path(flow_run.parameters['recipe']).stem}"


@flow(name="retrain", flow_run_name=name_run, persist_result=False)
def retrain(
    recipe: RecipeFile,
    overrides: Overrides = (),
    force: bool = False,
    at: datetime | None = None,
) -> State[RetrainSummary]:
    """Train a challenger where it is worth it; only a better one becomes champion.

    Args:
        recipe: The recipe's YAML file; a relative path starts at the working directory.
        overrides: Settings that win over the file, such as ``retrain.cooldown_hours=12``.
        force: Train whatever triggers, cooldown and number per week say.
        at: The time that it is taken to be; without it the start that was scheduled, else now.

    Returns:
        A state named after the outcome, such as ``Skipped``, ``Promoted`` or ``Rejected``; its
        result is the summary that ``retune retrain --json`` prints. Where a person has to agree,
        a deployed run is suspended until then.

    Raises:
        RetuneError: The recipe, the data or a stage failed; the champion is as it was.
    """
    with open_recipe(recipe, overrides, tracked=False) as run:
        look = look_around(run, at=at, force=force)
        end_left_runs(run)
        asked = find_asked(look)
        if asked is None:
            look = settle_approval(look)
            job = prepare_job(run, look.inputs) if look.reads_rows else None
            assessment = assess(look, job)
            if assessment.worth_it and not look.goes_on:
                job = job or prepare_job(run, look.inputs)
                assessment = ask_held_out_rows(assessment, job)
            if not assessment.worth_it:
                return skip(look, assessment)

    if asked is None:
        with telling_failure(look), open_recipe(recipe, overrides, at=look.at) as run:
            summary = train_challenger(run)
            assert summary is not None
            outcome = conclude(look, assessment, run, summary)
        asked = ask(look, outcome)
        if asked is None:
            return end_as(look, outcome)

    # This ends the process, and frees the device; answered, the flow begins anew and comes here.
    question = Answer.with_initial_data(description=asked.text)
    answer = suspend_flow_run(wait_for_input=question, timeout=asked.seconds, key=asked.key)
    return end_as(look, act_on(look, asked, answer, at))
