"""Reporting what a run found: to MLflow, to a report, to Prefect's UI.

All of it is written from records, so that a run whose stages are all reused is reported as
completely as one that computed them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from retune.data.limits import (
    list_fault_files,
    merge_faults,
    refuse_breaches,
    refuse_single_class,
)
from retune.data.reporting import DataReport, gather_report, write_data_report
from retune.digests import digest_json
from retune.gate.power import DetectableGain
from retune.model_records import AdapterRef, MergedRef, ModelRef, Role
from retune.modeling.memory.memory_estimate import MemoryEstimate
from retune.records import LOG_FOLDER
from retune.release.error_budget import ErrorBudget
from retune.release.explorer import explore_rows
from retune.release.methods import describe_release, describe_training
from retune.release.model_card import ModelCard, render_model_card
from retune.release.report import describe_data, describe_form, write_report
from retune.release.resources import calibrate
from retune.release.run_figures import entry_name, list_run_figures, list_run_tags
from retune.release.samples import choose_samples, gather_shown
from retune.release.summary import RunSummary, headline, split_baselines
from retune.score_records import GateDecision, ModelScores, RegisteredRef, ScoreReport
from retune.scoring.outcomes import redact_outcomes
from retune.scoring.showing import ROLE_LABELS, label_of, show_interval, show_value
from retune.spine.store import MANIFEST
from retune.stages import TRAINING_STAGES
from retune.tracking import Mirror
from retune.training.class_weights import count_labels, weigh_classes
from retune.training.metrics import read_metrics
from retune.watching import StageLine
from tasks.runs.job import Job
from tasks.runs.live import name_training, training_params
from tasks.runs.prefect_api import show
from tasks.runs.run import RecipeRun

Models = tuple[ModelRef, AdapterRef, MergedRef]
Release = tuple[GateDecision, RegisteredRef]


def report_data(job: Job) -> None:
    """Write down what was found in the rows, and stop where a limit of the recipe is broken.

    Args:
        job: Its rows.

    Raises:
        DataError: A limit is broken; the message names each, and the report.
    """
    if not job.rows_known:
        return
    folder, _ = write_report_on_data(job)
    if not job.run.planning:
        show(
            create_markdown_artifact,
            key="data-report",
            description="What was found in the rows, and what was dropped",
            markdown=(folder / "data.md").read_text("utf-8"),
        )
    refuse_data(job)


def write_report_on_data(job: Job) -> tuple[Path, DataReport]:
    """Write the report on the rows, and say where it is.

    Args:
        job: Its rows.

    Returns:
        The report's folder, and the report.
    """
    folder, recipe, data = data_report_folder(job), job.run.recipe, job.data
    report = gather_report(
        data.clean, data.split, data.chat, recipe.limits, data.rows, name=recipe.name
    )
    write_data_report(folder, report)
    return folder, report


def refuse_data(job: Job) -> None:
    """Stop where a limit of the recipe is broken.

    Args:
        job: Its rows.

    Raises:
        DataError: The message names every broken limit, and the files that list the rows; or all
            rows have one label, or a classification head cannot learn one.
        ConfigError: Class weights are for other labels.
    """
    recipe, data = job.run.recipe, job.data
    refuse_single_class(data.labels, data.rows)
    head = recipe.head
    if head is not None:
        # Here, and not first in the training: the base would be scored in vain.
        counts = count_labels(data.chat.side("train"))
        weigh_classes(head.class_weights, data.labels, counts)
    refuse_breaches(
        recipe.limits,
        merge_faults(data.clean, data.split, data.chat),
        list_fault_files(data.clean, data.split, data.chat, data.rows),
    )


def data_report_folder(job: Job) -> Path:
    """Return where the report on the rows goes; equal rows have one report."""
    data = job.data
    digest = digest_json([each.digest for each in (data.clean, data.split, data.chat)])
    return job.run.store.root / "reports" / f"data-{digest[:12]}"


def report_run(
    job: Job,
    *,
    models: Models,
    scores: Mapping[Role, ModelScores | None],
    baselines: ScoreReport | None,
    release: Release,
    estimated: MemoryEstimate | None,
    budget: ErrorBudget | None,
    power: DetectableGain | None,
) -> RunSummary | None:
    """Write down what a run found.

    Args:
        job: Its rows.
        models: Quantized model, adapter, released model.
        scores: Reports by role; None where a role does not exist.
        baselines: What plain classifiers reach; None where rows have no labels.
        release: Decision and registered version.
        estimated: Memory that supervised fine-tuning was estimated to need; None where it was not.
        budget: What the held-out rows may still be asked; None while planning.
        power: Smallest gain that the held-out rows can show; None where it is not known.

    Returns:
        The summary; None while planning, when there is nothing to tell.
    """
    run, recipe = job.run, job.run.recipe
    if run.planning or run.mirror is None:
        return None
    if job.data.pairs is not None or recipe.grpo is not None:
        # Measured is the last training, and estimated the first.
        estimated = None
    present = {role: each for role, each in scores.items() if each is not None}
    summary = RunSummary(
        recipe=recipe.name,
        models={role: headline(each) for role, each in present.items()},
        form=present["merged"].form,
        baselines=split_baselines(baselines),
        stages=tuple(run.lines),
        decision=release[0],
        budget=budget,
        registered=release[1],
        samples=choose_samples(present, recipe.scoring.samples),
        mlflow_run_id=run.parent_run,
        tracking_uri=run.context["tracking_uri"],
        report=run.store.root / "reports" / run.parent_run,
    )
    curves = models[1].folder / LOG_FOLDER / "metrics.jsonl"
    write_report(
        summary,
        curves,
        data=job.data,
        models=models,
        estimated=estimated,
        power=power,
        exploration=explore_rows(present, release[0].metric, job.data.chat.side("test")),
        shown=gather_shown(present),
        sampling=recipe.probes.sampling if recipe.probes else None,
        folder=summary.report,
    )
    calibrate(run.store.root, models[1], estimated)
    _report_to_mlflow(job, run.mirror, summary, models, present, estimated)
    _report_trainings(run, run.mirror)
    _report_to_prefect(summary)
    _link_to(summary, run.mirror.address(run.parent_run))
    return summary


def _report_to_mlflow(
    job: Job,
    mirror: Mirror,
    summary: RunSummary,
    models: Models,
    scores: Mapping[Role, ModelScores],
    estimated: MemoryEstimate | None,
) -> None:
    run, data = job.run, job.data
    mirror.metrics(run.parent_run, list_run_figures(summary, models, scores, estimated))
    mirror.tags(run.parent_run, list_run_tags(summary))
    clean, chat = data.clean, data.chat
    mirror.dataset(run.parent_run, "rows", clean.digest, rows=clean.rows, context="all")
    for side, count in (("train", chat.train), ("test", chat.test)):
        digest = chat.side_digests[side]  # type: ignore[index]
        mirror.dataset(run.parent_run, side, digest, rows=count, context=side)
    mirror.artifact(run.parent_run, data_report_folder(job), "data")
    mirror.artifact(run.parent_run, summary.report, "report")
    mirror.text(run.parent_run, _model_card(job, summary, models), "README.md")
    for role, each in scores.items():
        for name, report in each.reports.items():
            # MLflow has other readers than the store.
            shown = summary.report.with_name(f"{summary.report.name}.scores") / role / name
            redact_outcomes(report, shown)
            mirror.artifact(run.parent_run, shown, f"scores/{role}/{name}")
    for line in summary.stages:
        manifest = run.store.folder(line.name, line.key) / MANIFEST
        mirror.artifact(run.parent_run, manifest, f"manifests/{entry_name(line.label)}")


def _model_card(job: Job, summary: RunSummary, models: Models) -> str:
    recipe = job.run.recipe
    return render_model_card(
        ModelCard(
            model_name=recipe.registry.model_name,
            base_model=recipe.model.id,
            method=describe_training(recipe, models[0].quantization),
            release=describe_release(models[1], models[2]),
            bundled=models[2].bundled,
            data=describe_data(job.data),
            models=summary.models,
            scored=describe_form(summary.form),
        )
    )


def _report_trainings(run: RecipeRun, mirror: Mirror) -> None:
    """Complete the nested run of each training, and link to the last, of which the curves are."""
    for line in run.lines:
        if line.name in TRAINING_STAGES:
            known = _report_training(run, mirror, line)
            tags = {"retune.training_run": known, "retune.training_state": line.state}
            mirror.tags(run.parent_run, tags)


def _report_training(run: RecipeRun, mirror: Mirror, line: StageLine) -> str:
    """Complete a nested run, or find it where the training was reused; return its id."""
    known = mirror.find_training(line.key) if line.state != "ran" else None
    if known is not None:
        return known
    recipe = run.recipe
    known = mirror.open_training(run.parent_run, line.key, name_training(recipe.name, line.name))
    mirror.params(known, training_params(recipe, line.name))
    curves = run.store.folder(line.name, line.key) / LOG_FOLDER / "metrics.jsonl"
    for point in read_metrics(curves):
        mirror.metrics(known, {point["name"]: point["value"]}, point["step"])
    mirror.close(known, "FINISHED")
    return known


def _report_to_prefect(summary: RunSummary) -> None:
    show(
        create_table_artifact,
        key="scores",
        description=f"{summary.recipe}: held-out figures with 95 % intervals",
        table=[
            {
                "model": ROLE_LABELS[role],
                "figure": label_of(name),
                "value": show_value(name, metric.value),
                "interval": show_interval(name, metric.low, metric.high),
                "rows": metric.n,
            }
            for role, metrics in summary.models.items()
            for name, metric in metrics.items()
        ],
    )
    show(
        create_table_artifact,
        key="stages",
        description="What ran, what was reused, and why",
        table=[
            {
                "stage": line.label,
                "state": line.state,
                "seconds": round(line.seconds, 2),
                "reason": line.reason,
                "key": line.key,
            }
            for line in summary.stages
        ],
    )
    show(
        create_markdown_artifact,
        key="report",
        description="The run's report",
        markdown=(summary.report / "report.md").read_text("utf-8"),
    )


def _link_to(summary: RunSummary, mlflow_run: str | None) -> None:
    page = summary.report / "report.html"
    show(
        create_link_artifact,
        key="report-page",
        link=page.resolve().as_uri(),
        link_text="report.html",
        description=f"The report with its pictures: {page}",
    )
    if mlflow_run is not None:
        show(
            create_link_artifact,
            key="mlflow-run",
            link=mlflow_run,
            link_text=summary.mlflow_run_id,
            description="The run in MLflow: settings, curves, figures, artifacts",
        )
