"""Telling what a run found: to MLflow, to a report, to Prefect's UI.

All of it is written from records, so that a run whose stages are all reused is told as completely
as one that computed them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from retune.data.limits import (
    list_fault_files,
    merge_faults,
    refuse_breaches,
    refuse_single_class,
)
from retune.data.prepared import PreparedData
from retune.data.reporting import DataReport, gather_report, write_data_report
from retune.digests import digest_json
from retune.records import (
    LOG_FOLDER,
    AdapterRef,
    GateDecision,
    MergedRef,
    ModelRef,
    ModelScores,
    RegisteredRef,
    Role,
    ScoreReport,
)
from retune.release.methods import describe_release, describe_training
from retune.release.model_card import ModelCard, render_model_card
from retune.release.report import describe_data, write_report
from retune.release.resources import calibrate, resource_figures
from retune.release.samples import choose_samples
from retune.release.summary import RunSummary, headline, split_baselines
from retune.stages import TRAIN_PREFERENCES, TRAIN_REWARDS, TRAINING_STAGES
from retune.store import MANIFEST
from retune.tracking import Mirror
from retune.training.class_weights import count_labels, weigh_classes
from retune.training.metrics import read_metrics
from retune.watching import StageLine
from tasks.live import name_training
from tasks.run import RecipeRun
from tasks.stage_task import is_pending

Models = tuple[ModelRef, AdapterRef, MergedRef]
Release = tuple[GateDecision, RegisteredRef]


def tell_data(run: RecipeRun, data: PreparedData) -> None:
    """Write down what was found in the rows, and stop where a limit of the recipe is broken.

    Args:
        run: The current run.
        data: Rows from their sources to chats.

    Raises:
        DataError: A limit is broken; the message names each, and the report.
    """
    if is_pending([data.clean, data.split, data.chat]):
        return
    folder, _ = write_report_on_data(run, data)
    if not run.planning:
        create_markdown_artifact(
            key="data-report",
            description="What was found in the rows, and what was dropped",
            markdown=(folder / "data.md").read_text("utf-8"),
        )
    refuse_data(run, data)


def write_report_on_data(run: RecipeRun, data: PreparedData) -> tuple[Path, DataReport]:
    """Write the report on the rows, and say where it is.

    Args:
        run: The current run.
        data: Rows from their sources to chats.

    Returns:
        The report's folder, and the report.
    """
    folder = data_report_folder(run, data)
    recipe = run.loaded.recipe
    report = gather_report(
        data.clean, data.split, data.chat, recipe.limits, data.rows, name=recipe.name
    )
    write_data_report(folder, report)
    return folder, report


def refuse_data(run: RecipeRun, data: PreparedData) -> None:
    """Stop where a limit of the recipe is broken.

    Args:
        run: The current run.
        data: Rows from their sources to chats.

    Raises:
        DataError: The message names every broken limit, and the files that list the rows; or all
            rows have one label, or a classification head cannot learn one.
        ConfigError: Class weights are for other labels.
    """
    refuse_single_class(data.labels, data.rows)
    head = run.loaded.recipe.head
    if head is not None:
        # Here, and not first in the training: the base would be scored in vain.
        counts = count_labels(data.chat.side("train"))
        weigh_classes(head.class_weights, data.labels, counts)
    refuse_breaches(
        run.loaded.recipe.limits,
        merge_faults(data.clean, data.split, data.chat),
        list_fault_files(data.clean, data.split, data.chat, data.rows),
    )


def data_report_folder(run: RecipeRun, data: PreparedData) -> Path:
    """Return where the report on the rows goes; equal rows have one report."""
    digest = digest_json([each.digest for each in (data.clean, data.split, data.chat)])
    return run.store.root / "reports" / f"data-{digest[:12]}"


def tell_result(
    run: RecipeRun,
    *,
    data: PreparedData,
    models: Models,
    scores: Mapping[Role, ModelScores | None],
    baselines: ScoreReport | None,
    release: Release,
) -> dict[str, Any]:
    """Write down what a run found.

    Args:
        run: The current run.
        data: Rows from their sources to chats.
        models: Quantized model, adapter, released model.
        scores: Reports by role; None where a role does not exist.
        baselines: What plain classifiers reach; None where rows have no labels.
        release: Decision and registered version.

    Returns:
        The summary as JSON; empty while planning, when there is nothing to tell.
    """
    if run.planning or run.mirror is None:
        return {}
    present = {role: each for role, each in scores.items() if each is not None}
    summary = RunSummary(
        recipe=run.loaded.recipe.name,
        models={role: headline(each) for role, each in present.items()},
        baselines=split_baselines(baselines),
        stages=tuple(run.lines),
        decision=release[0],
        registered=release[1],
        samples=choose_samples(present, run.loaded.recipe.scoring.samples),
        mlflow_run_id=run.parent_run,
        tracking_uri=run.context["tracking_uri"],
        report=run.store.root / "reports" / run.parent_run,
    )
    curves = models[1].folder / LOG_FOLDER / "metrics.jsonl"
    write_report(summary, curves, data=data, models=models, folder=summary.report)
    calibrate(run.store.root, models[1])
    _tell_mlflow(run, run.mirror, summary, data, models, present)
    _tell_trainings(run, run.mirror)
    _tell_prefect(summary)
    return summary.model_dump(mode="json")


def _tell_mlflow(
    run: RecipeRun,
    mirror: Mirror,
    summary: RunSummary,
    data: PreparedData,
    models: Models,
    scores: Mapping[Role, ModelScores],
) -> None:
    figures: dict[str, float] = {}
    for role, each in scores.items():
        for name, metric in each.metrics().items():
            for part in ("value", "low", "high"):
                value = getattr(metric, part)
                if value is not None:
                    end = "" if part == "value" else f".{part}"
                    figures[f"{role}.{name}{end}"] = value
    for record in models:
        figures.update(_numbers(type(record).__name__.removesuffix("Ref").lower(), record))
    figures.update({f"adapter.{name}": value for name, value in models[1].figures.items()})
    figures.update(resource_figures(models[1]))
    figures.update({f"seconds.{line.label}": line.seconds for line in summary.stages})
    mirror.metrics(run.parent_run, {_metric_name(name): v for name, v in figures.items()})
    mirror.tags(
        run.parent_run,
        {
            "retune.promoted": str(summary.decision.promote).lower(),
            "retune.version": f"{summary.registered.model_name}/{summary.registered.version}",
            **{f"stage.{_metric_name(line.label)}": line.state for line in summary.stages},
        },
    )
    clean, chat = data.clean, data.chat
    mirror.dataset(run.parent_run, "rows", clean.digest, rows=clean.rows, context="all")
    for side, count in (("train", chat.train), ("test", chat.test)):
        digest = chat.side_digests[side]  # type: ignore[index]
        mirror.dataset(run.parent_run, side, digest, rows=count, context=side)
    mirror.artifact(run.parent_run, data_report_folder(run, data), "data")
    mirror.artifact(run.parent_run, summary.report, "report")
    mirror.text(run.parent_run, _model_card(run, summary, data, models), "README.md")
    for role, each in scores.items():
        for name, report in each.reports.items():
            mirror.artifact(run.parent_run, report.folder, f"scores/{role}/{name}")
    for line in summary.stages:
        manifest = run.store.folder(line.name, line.key) / MANIFEST
        mirror.artifact(run.parent_run, manifest, f"manifests/{_metric_name(line.label)}")


def _model_card(run: RecipeRun, summary: RunSummary, data: PreparedData, models: Models) -> str:
    recipe = run.loaded.recipe
    return render_model_card(
        ModelCard(
            model_name=recipe.registry.model_name,
            base_model=recipe.model.id,
            method=describe_training(recipe, models[0].quantization),
            release=describe_release(models[1], models[2]),
            bundled=models[2].bundled,
            data=describe_data(data),
            models=summary.models,
        )
    )


def _numbers(name: str, record: Any) -> dict[str, float]:
    values = record.model_dump()
    return {
        f"{name}.{field}": float(value)
        for field, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _metric_name(text: str) -> str:
    # MLflow refuses most signs in names; a label may hold any.
    return re.sub(r"[^\w./ -]", "_", text.replace(" (", ".").replace(")", ""))


def _tell_trainings(run: RecipeRun, mirror: Mirror) -> None:
    """Complete the nested run of each training, and link to the last, of which the curves are."""
    for line in run.lines:
        if line.name in TRAINING_STAGES:
            known = _tell_training(run, mirror, line)
            tags = {"retune.training_run": known, "retune.training_state": line.state}
            mirror.tags(run.parent_run, tags)


def _tell_training(run: RecipeRun, mirror: Mirror, line: StageLine) -> str:
    """Complete a nested run, or find it where the training was reused; return its id."""
    known = mirror.find_training(line.key) if line.state == "reused" else None
    if known is not None:
        return known
    recipe = run.loaded.recipe
    known = mirror.open_training(run.parent_run, line.key, name_training(recipe.name, line.name))
    mirror.params(known, {"method": recipe.method.model_dump(mode="json")})
    mirror.params(known, {"training": recipe.training.model_dump(mode="json")})
    for stage, name, section in (
        (TRAIN_PREFERENCES, "dpo", recipe.dpo),
        (TRAIN_REWARDS, "grpo", recipe.grpo),
    ):
        if line.name == stage.name and section is not None:
            mirror.params(known, {name: section.model_dump(mode="json")})
    curves = run.store.folder(line.name, line.key) / LOG_FOLDER / "metrics.jsonl"
    for point in read_metrics(curves):
        mirror.metrics(known, {point["name"]: point["value"]}, point["step"])
    mirror.close(known, "FINISHED")
    return known


def _tell_prefect(summary: RunSummary) -> None:
    create_table_artifact(
        key="scores",
        description=f"{summary.recipe}: held-out figures with 95 % intervals",
        table=[
            {
                "model": role,
                "metric": name,
                "value": metric.value,
                "low": metric.low,
                "high": metric.high,
                "rows": metric.n,
            }
            for role, metrics in summary.models.items()
            for name, metric in metrics.items()
        ],
    )
    create_table_artifact(
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
    create_markdown_artifact(
        key="report",
        description="The run's report",
        markdown=(summary.report / "report.md").read_text("utf-8"),
    )
