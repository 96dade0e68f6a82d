"""The flow `reproduce`: a registered version is made again from its manifest, and compared."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from flows.preparing import prepare_job
from retune.inputs import locate_inputs
from retune.release.reproduction import Reproduction
from tasks.alignment import align_model
from tasks.estimating import plan_memory
from tasks.modeling import check_method, make_release, quantize_model, train_model
from tasks.reproducing import (
    check_sources,
    find_original,
    open_fresh,
    report_reproduction,
    start_as_then,
)
from tasks.scoring import score_label_baselines, score_model


def name_run() -> str:
    """Name a flow run after the version."""
    return f"reproduce {flow_run.parameters['model_name']} {flow_run.parameters['version']}"


@flow(name="reproduce", flow_run_name=name_run, persist_result=False)
def reproduce(
    model_name: str,
    version: int,
    recipe: Path | None = None,
    store: Path = Path(".retune"),
    into: Path | None = None,
) -> Reproduction:
    """Make a version again in a fresh store, up to its scores, and say whether it is equal.

    Args:
        model_name: The registered model.
        version: Number of the version.
        recipe: A recipe that says where MLflow and the store are.
        store: Folder of the store, without a recipe.
        into: Folder of the fresh store, which stays; None for a temporary one.

    Returns:
        The comparison, which ``retune reproduce --json`` prints.

    Raises:
        RetuneError: The version has no manifest, its sources have changed, or a stage failed.
    """
    original = find_original(model_name, version, recipe=recipe, store=store)
    with open_fresh(original, into) as run:
        inputs = locate_inputs(run.loaded)
        check_sources(original, inputs)

        job = prepare_job(run, inputs, earlier=original.rows)
        job = start_as_then(job, original)
        check_method(job)
        job = plan_memory(job)

        model = quantize_model(job.run, base=inputs.base, reference_text=inputs.reference_text)
        score_label_baselines(job)
        score_model(job, "base", inputs.base.as_scored())

        adapter = train_model(job, model)
        adapter = align_model(job, adapter, model)
        score_model(job, "adapter", adapter.as_scored(model, inputs.base))

        merged = make_release(job, adapter)
        score_model(job, "merged", merged.as_scored())
        return report_reproduction(run, original, kept=into is not None)
