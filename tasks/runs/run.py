"""One run of a flow: its recipe, store, stage process, MLflow mirror and watcher."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from prefect.exceptions import CancelledRun
from pydantic import BaseModel

from retune.errors import Interrupted
from retune.recipe.loading import LoadedRecipe
from retune.recipe.recipe import Recipe
from retune.records import ContentRecord
from retune.spine.durable_files import explaining_disk
from retune.spine.lookup import Lookup, look_up
from retune.spine.process import StageProcess
from retune.spine.stage import Reporter, Stage, StageRequest, key_parts, run_stage, stage_key
from retune.spine.store import Store
from retune.spine.usage import at_work, mark_used
from retune.tracking import Mirror, RunStatus, check_tracking
from retune.tracking.sending import PARENT_TAG
from retune.watching import StageLine, Watcher
from tasks.runs.prefect_api import PrefectApi

Supervisor = Callable[[Stage[..., Any], StageRequest, Reporter], Reporter]


@dataclass(frozen=True)
class Run:
    """What the stages of one flow run share.

    Attributes:
        name: Shown name.
        settings: Where stages find their sections by name: a recipe, or a flow's own settings.
        store: Where artifacts are.
        watcher: Who is told.
        process: Where torch work runs, started by the first stage that needs it; None to run it
            right here.
        mirror: Where MLflow is written; None where it is not.
        parent_run: MLflow id of this flow run.
        planning: True when stages are looked up but never run.
        direct: True when stages are called without Prefect: for a look at the data, or within a
            task that holds several stages.
        context: What stages are given beside their inputs: the MLflow address, run ids.
        supervise: Given the reporter of a stage in the stage process, returns one that may refuse
            or stop it.
        lines: The stages so far; each one that ends adds its own.
        prefect: Whether Prefect's API still answers, and whether the run needs it.
    """

    name: str
    settings: BaseModel
    store: Store
    watcher: Watcher
    process: StageProcess | None = None
    mirror: Mirror | None = None
    parent_run: str = ""
    planning: bool = False
    direct: bool = False
    context: Mapping[str, str] = field(default_factory=dict)
    supervise: Supervisor | None = None
    lines: list[StageLine] = field(default_factory=list)
    prefect: PrefectApi = field(default_factory=PrefectApi)

    def request(
        self, stage: Stage[..., Any], inputs: dict[str, Any]
    ) -> tuple[StageRequest, Lookup]:
        """Build a stage's request from the recipe, and look its key up in the store.

        Args:
            stage: What is run.
            inputs: Input records by name.

        Returns:
            The request, and whether the store has it.
        """
        typed = stage.inputs.model_validate(inputs)
        settings = stage.settings.of(self.settings)
        parts = key_parts(stage, typed, settings)
        key = stage_key(parts)
        if not self.planning:
            # Before it is looked at: a clean-up beside this leaves what has been marked.
            mark_used(self.store, stage.name, key)
        request = StageRequest(
            stage=stage.name,
            key=key,
            inputs=typed.model_dump(mode="json"),
            settings=settings.by_name(),
            store=self.store.address,
            cache=self.store.caches,
            context=dict(self.context),
        )
        return request, look_up(self.store, stage, request, parts)

    def compute(self, stage: Stage[..., Any], request: StageRequest, reporter: Reporter) -> None:
        """Run a stage, in the stage process where it needs torch and there is one, else here."""
        if stage.on_device and self.process is not None:
            supervised = self.supervise(stage, request, reporter) if self.supervise else reporter
            self.process.run(request, supervised)
        else:
            run_stage(stage, request, reporter)

    def free_memory(self) -> None:
        """End the stage process, so that what it holds is free; the next stage starts another."""
        if self.process is not None:
            self.process.stop()

    def load(self, stage: Stage[..., Any], request: StageRequest) -> ContentRecord:
        """Return a stored record."""
        record: ContentRecord = self.store.load(stage.name, request.key, stage.output)
        return record


@dataclass(frozen=True, kw_only=True)
class RecipeRun(Run):
    """A run of a recipe.

    Attributes:
        loaded: The recipe, and where its paths start.
    """

    loaded: LoadedRecipe

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return self.loaded.recipe


@dataclass(frozen=True)
class TrackedRun:
    """What MLflow shows of a run from its start.

    Attributes:
        name: Shown name.
        tags: Tags.
        params: Settings.
        below: MLflow id of the run that it is part of; empty for one of its own.
    """

    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    below: str = ""


AnyRun = TypeVar("AnyRun", bound=Run)

CURRENT: ContextVar[Run] = ContextVar("retune_run")
"""The run whose tasks are being called; Prefect passes contexts on to tasks."""


@contextmanager
def open_run(run: AnyRun, tracked: TrackedRun | None = None) -> Iterator[AnyRun]:
    """Make a run the current one; when the block ends, end its process and its run in MLflow.

    Args:
        run: The run.
        tracked: What MLflow shows of it; None for a run that writes nothing there.

    Yields:
        The run, with its mirror where it has one.

    Raises:
        ArtifactError: The store cannot be written, at the start or in the block.
        ServiceError: MLflow does not answer.
    """
    for note in run.store.check_writable():
        run.watcher.note(note)
    with at_work(run.store.root):
        yield from _open(run, tracked)


def _open(run: AnyRun, tracked: TrackedRun | None) -> Iterator[AnyRun]:
    if tracked is not None:
        run = _track(run, tracked)
    token = CURRENT.set(run)
    status: RunStatus = "FINISHED"
    try:
        try:
            # Reports and logs are written beside the stages, which explain their own errors.
            with explaining_disk(run.store.root):
                yield run
        finally:
            CURRENT.reset(token)
            run.free_memory()
    except BaseException as error:
        status = ended_as(error)
        raise
    finally:
        if run.mirror is not None:
            run.mirror.close(run.parent_run, status)
            for warning in run.mirror.warnings:
                run.watcher.note(warning)


def ended_as(error: BaseException) -> RunStatus:
    """Say how MLflow calls the end of what an error ended: stopped from outside, or failed.

    Args:
        error: Ctrl-C, and how Prefect cancels, are no `Exception`; `Interrupted` is how the stage
            process tells of a stop that reached it first.
    """
    stopped = isinstance(error, Interrupted | CancelledRun) or not isinstance(error, Exception)
    return "KILLED" if stopped else "FAILED"


def stage_log(store: Store) -> Path:
    """Return the file that this flow's stage process writes to."""
    return store.root / "logs" / f"stages-{os.getpid()}.log"


def _track(run: AnyRun, tracked: TrackedRun) -> AnyRun:
    tags = dict(tracked.tags)
    if tracked.below:
        tags[PARENT_TAG] = tracked.below
    else:
        # What stands below a run has no need to ask again, and goes on without MLflow.
        check_tracking(run.context["tracking_uri"])
    mirror = Mirror(
        run.context["tracking_uri"],
        run.context["experiment"],
        artifact_root=run.context["artifact_root"],
        store_root=run.store.root,
    )
    parent_run = mirror.open_parent(tracked.name, tags)
    mirror.params(parent_run, tracked.params)
    context = {**run.context, "run_id": parent_run}
    return replace(run, mirror=mirror, parent_run=parent_run, context=context)
