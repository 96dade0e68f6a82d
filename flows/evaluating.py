"""The flow `evaluate`: any models side by side on a recipe's held-out rows.

It trains, decides and registers nothing. Its stages are those of `finetune`, with the same keys:
what a run has scored is not scored again, and what is scored here a run need not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.preparing import prepare_data
from retune.inputs import locate_inputs
from tasks.evaluating import (
    Evaluated,
    evaluation_run,
    find_models,
    prepare_for,
    put_on_weights,
    score_candidate,
    tell_comparison,
)
from tasks.telling import tell_data


def name_run() -> str:
    """Name a flow run after its recipe."""
    return f"evaluate {Path(flow_run.parameters['recipe']).stem}"


@flow(name="evaluate", flow_run_name=name_run, persist_result=False)
def evaluate(
    recipe: Path, models: list[str], overrides: list[str] | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Score models on the held-out rows of a recipe, and compare each with the first.

    Args:
        recipe: The recipe's YAML file; a relative path starts at the working directory.
        models: Each `base`, a folder (model or adapter), a hub id, or `models:/name@alias`.
        overrides: Settings that win over the file, such as ``scoring.samples=5``.
        out: Folder of the pages; None for one below the store's `reports`.

    Returns:
        The comparison that ``retune evaluate --json`` prints.

    Raises:
        RetuneError: The recipe, a model, the data or a stage failed; the message says what to do.
    """
    with evaluation_run(recipe, overrides or []) as run:
        source = locate_inputs(run.loaded, with_weights=False)
        found = find_models(run, models)

        data = prepare_data(run, source)
        tell_data(run, data)

        evaluated: list[Evaluated] = []
        for model in found:
            rows, likeness = prepare_for(run, model, data, source)
            weighed = put_on_weights(run, model, source)
            evaluated.append(score_candidate(run, weighed, rows, likeness, source))
        return tell_comparison(run, data, evaluated, out)
