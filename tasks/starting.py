"""Where training starts: at the base, or at the adapter of the version that is champion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from retune.data import stages as data
from retune.errors import ArtifactError, ConfigError
from retune.modeling.starting import locate_start
from retune.records import ChatRef, ContentRecord, Source
from retune.registry.records import VersionManifest
from retune.registry.versions.manifests import (
    fetch_adapter,
    find_champion_version,
    read_manifest,
    rows_path,
)
from retune.registry.versions.origins import KEY, name_version, refuse_unlike_origin
from tasks.modeling import quantize_model, train_adapter
from tasks.remembering import manifests_of
from tasks.runs.job import Job
from tasks.runs.run import RecipeRun
from tasks.runs.stage_task import StageTask

Output = TypeVar("Output", bound=ContentRecord)

replay_rows = StageTask(data.replay_rows)


@dataclass(frozen=True)
class Origin:
    """A version that training may go on from.

    Attributes:
        version: Its number.
        adapter: What it was released from.
        rows: What its rows were.
    """

    version: int
    adapter: Source
    rows: Source


def choose_start(job: Job) -> Job:
    """Let training go on from the champion's adapter, where the recipe says so.

    Args:
        job: Its rows and inputs.

    Returns:
        The job with the adapter, and on its training side the rows that the champion has not seen
        with a draw of those that it has; as it was where training starts at the base.

    Raises:
        ConfigError: This recipe cannot train the champion's adapter further.
        ArtifactError: The champion's adapter is gone.
        ServiceError: MLflow does not answer.
    """
    run = job.run
    if run.recipe.retrain.start_from != "champion":
        return job
    number = find_champion_version(run.context["tracking_uri"], run.recipe.registry.model_name)
    if number is None:
        run.watcher.note(f"{KEY}: there is no champion yet; training starts at the base")
        return job
    champion = _read(run, number)
    # A run that is repeated starts where it started, and not at what it made itself.
    before = champion.started_from
    earlier = find_origin(job, before) if before is not None else None
    if _made(job, earlier, champion):
        return go_on(job, earlier) if earlier else job
    refuse_unlike_origin(champion, run.recipe, job.inputs.base.digest)
    origin = find_origin(job, number)
    if origin is None:
        raise ArtifactError(
            f"{KEY}: the adapter of {name_version(champion)}, the champion, is neither in this "
            "store nor among the artifacts of its run in MLflow. Run where it was trained, or "
            f"write {KEY}: base."
        )
    return go_on(job, origin)


def _read(run: RecipeRun, number: int) -> VersionManifest:
    name = run.recipe.registry.model_name
    found = read_manifest(run.context["tracking_uri"], name, number, manifests_of(run))
    if found is None:
        raise ConfigError(
            f"{KEY}: {name} version {number}, the champion, has no manifest, so that its adapter "
            f"and its rows are not known. Write {KEY}: base for this run; the version that it "
            "registers will have one."
        )
    return found


def find_origin(job: Job, number: int) -> Origin | None:
    """Return a version to go on from.

    Args:
        job: Its store and MLflow are looked in.
        number: Of the version.

    Returns:
        None where the adapter is not to be had, or is of another base.

    Raises:
        ConfigError: It is no adapter that can be trained further.
        ServiceError: MLflow does not answer.
    """
    run, base = job.run, job.inputs.base
    uri, name, folder = (
        run.context["tracking_uri"],
        run.recipe.registry.model_name,
        manifests_of(run),
    )
    manifest = read_manifest(uri, name, number, folder)
    if manifest is None or manifest.base != base.digest:
        return None
    stored = _stored_adapter(run, manifest)
    adapter = stored if stored is not None else fetch_adapter(uri, name, number, folder)
    if adapter is None:
        return None
    return Origin(
        version=number,
        adapter=locate_start(adapter, base, run.loaded.resolve),
        rows=Source(digest=manifest.rows_digest, path=rows_path(folder, name, number)),
    )


def _stored_adapter(run: RecipeRun, manifest: VersionManifest) -> Path | None:
    label = manifest.adapter_stage
    if label is None:
        return None
    whole = run.store.damage(label, manifest.stages[label]) is None
    return run.store.folder(label, manifest.stages[label]) if whole else None


def go_on(job: Job, origin: Origin) -> Job:
    """Let a job train an adapter further, on what it has not seen and a part of what it has.

    Args:
        job: Its rows.
        origin: The version that it goes on from.
    """
    chat = replay_rows(job.run, chat=job.data.chat, split=job.data.split, seen=origin.rows)
    return _started_at(job, origin, chat)


def _started_at(job: Job, origin: Origin, chat: ChatRef) -> Job:
    return replace(
        job,
        inputs=replace(job.inputs, start=origin.adapter),
        data=replace(job.data, chat=chat),
        started_from=origin.version,
    )


def _made(job: Job, origin: Origin | None, champion: VersionManifest) -> bool:
    """Say whether this very run, started at an origin or at the base, trained the champion."""
    if not job.rows_known:
        return False
    run, inputs = job.run, job.inputs
    if origin is not None:
        asked = {"chat": job.data.chat, "split": job.data.split, "seen": origin.rows}
        chat = _stored(run, replay_rows, asked)
        if chat is None:
            return False
        job = _started_at(job, origin, chat)
    texts = {"base": inputs.base, "reference_text": inputs.reference_text}
    model = _stored(run, quantize_model, texts)
    if model is None:
        return False
    request, _ = run.request(
        train_adapter.stage,
        {
            "train": job.data.chat.side("train"),
            "validation": job.data.chat.side("validation"),
            "base": inputs.base,
            "model": model,
            "start": job.inputs.start,
        },
    )
    return request.key == champion.stages.get("train_adapter")


def _stored(run: RecipeRun, task: StageTask[..., Output], inputs: dict[str, Any]) -> Output | None:
    request, found = run.request(task.stage, inputs)
    if found.state != "hit":
        return None
    record: Output = run.store.load(task.stage.name, request.key, task.stage.output)
    return record
