"""What is remembered from version to version: its manifest, and the rows of the champion's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from retune.data.parts.keeping import keep_parts
from retune.data.parts.row_history import write_row_history
from retune.digests import digest_file
from retune.errors import ArtifactError, ServiceError
from retune.model_records import AdapterRef, MergedRef
from retune.modeling.methods.adapter_folders import CONFIG, WEIGHTS
from retune.records import CleanRef, Source
from retune.registry.versions.manifests import (
    ADAPTER_ARTIFACTS,
    ARTIFACTS,
    MANIFESTS,
    find_champion_version,
    find_rows,
    find_run,
    is_sent,
    kept_rows_path,
    manifest_path,
    rows_path,
    write_manifest,
)
from retune.release.manifest import FinishedRun, gather_manifest
from retune.score_records import GateDecision, RegisteredRef
from retune.stages import TRAINING_STAGES
from retune.tracking import Mirror
from retune.whole_files import replacing
from tasks.runs.job import Job
from tasks.runs.run import RecipeRun
from tasks.runs.stage_task import combine

CONTINUED = ("lora", "qlora")
"""Methods whose adapter a later version may go on from."""


def find_earlier_rows(run: RecipeRun) -> Path | None:
    """Return the file that says what the champion's rows were.

    Args:
        run: The current run.

    Returns:
        The file (`HISTORY_SCHEMA`); None where there is no champion, or one whose rows are not
        known, which is told.

    Raises:
        ServiceError: MLflow does not answer, and what this run trains may become champion.
    """
    uri, name = run.context["tracking_uri"], run.recipe.registry.model_name
    try:
        champion = find_champion_version(uri, name)
        found = None if champion is None else find_rows(uri, name, champion, manifests_of(run))
    except ServiceError as error:
        # A look at the rows, or a trial, goes on without; what may be promoted must not.
        if run.mirror is not None and not run.direct:
            raise
        run.watcher.note(f"rows that were held out earlier are not known: {error.message}")
        return None
    if champion is not None and found is None:
        run.watcher.note(
            f"{name} version {champion}, the champion, has no manifest: which rows were held out "
            "from it is not known, and they may be learned now"
        )
    return found


def history_of(job: Job) -> Source | None:
    """Return what the champion's rows were as an input of stages; None where it is not known.

    Args:
        job: Its rows were prepared beside those of the champion.
    """
    earlier = job.data.earlier
    return None if earlier is None else Source(digest=digest_file(earlier), path=earlier)


def manifests_of(run: RecipeRun) -> Path:
    """Return the folder of manifests in a run's store."""
    return run.store.root / MANIFESTS


def keep_rows(run: RecipeRun, clean: CleanRef, earlier: Path | None) -> Source | None:
    """Find the rows that must keep the part that they had; None where none would move.

    Args:
        run: The current run.
        clean: The kept rows of all sources.
        earlier: From `find_earlier_rows`.
    """
    if earlier is None:
        return None
    known, recipe = earlier, run.recipe
    return combine(
        lambda rows: keep_parts(
            rows,
            known,
            run.store.root / "kept_rows",
            recipe.split,
            drop_leaked=recipe.quality.drop_leaked,
        ),
        clean,
    )


def remember_rows(job: Job, merged: MergedRef) -> None:
    """Write down which part each row has, before what was trained on them can become champion.

    Args:
        job: Its rows.
        merged: What is about to be released.

    Raises:
        ArtifactError: It cannot be written.
    """
    run = job.run
    if run.planning:
        return
    path, data = _kept_rows(run, merged), job.data
    try:
        with replacing(path) as part:
            write_row_history(part, data.clean, data.split, data.earlier)
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written ({error.strerror or error}). Make room, or its folder "
            "writable, and run again: all that is finished is reused."
        ) from error


def remember_version(
    job: Job,
    *,
    adapter: AdapterRef,
    merged: MergedRef,
    decision: GateDecision,
    registered: RegisteredRef,
) -> None:
    """Write the manifest of a registered version, and send it and its adapter to MLflow.

    Args:
        job: Its rows, written down by `remember_rows`.
        adapter: What was trained.
        merged: What was released.
        decision: What the gate said.
        registered: The version.

    Raises:
        ArtifactError: The manifest cannot be written.
        ServiceError: MLflow does not answer.
    """
    run = job.run
    if run.planning:
        return
    trained = [line.label for line in run.lines if line.name in TRAINING_STAGES]
    finished = FinishedRun(
        loaded=run.loaded,
        # An adapter of an earlier version is named by that version, and is no file of the recipe.
        inputs=job.inputs if job.started_from is None else replace(job.inputs, start=None),
        lines=run.lines,
        store=run.store,
        adapter_stage=trained[-1],
        merged=merged,
        decision=decision,
        registered=registered,
        started_from=job.started_from,
    )
    folder, name, version = manifests_of(run), registered.model_name, registered.version
    rows = _kept_rows(run, merged)
    written = write_manifest(gather_manifest(finished, rows), rows, folder)
    rows.unlink()
    uri = run.context["tracking_uri"]
    run_id = find_run(uri, name, version)
    if run_id is None or run.mirror is None:
        return
    # A run that ended between writing and sending is complete once it is repeated.
    if written or not is_sent(uri, run_id):
        for path in (manifest_path(folder, name, version), rows_path(folder, name, version)):
            run.mirror.artifact(run_id, path, ARTIFACTS)
        _send_adapter(run.mirror, run_id, adapter)


def _kept_rows(run: RecipeRun, merged: MergedRef) -> Path:
    name = run.recipe.registry.model_name
    return kept_rows_path(manifests_of(run), name, merged.digest, run.parent_run)


def _send_adapter(mirror: Mirror, run_id: str, adapter: AdapterRef) -> None:
    # All weights, or a head alone, are no adapter that a training can go on from.
    if adapter.kind in CONTINUED:
        for file in (CONFIG, WEIGHTS):
            mirror.artifact(run_id, adapter.folder / file, ADAPTER_ARTIFACTS)
