"""A running stage's progress: to the watcher, to Prefect's UI, and its curves to MLflow."""

from __future__ import annotations

import time
from contextvars import copy_context
from threading import Thread
from types import TracebackType
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from retune.recipe.recipe import Recipe
from retune.stages import TRAINING_STAGES
from retune.training.stages import train_preferences, train_rewards
from tasks.runs.prefect_api import show
from tasks.runs.run import RecipeRun, Run, ended_as

_SECONDS_BETWEEN_UPDATES = 2.0
_LAST_UPDATE_SECONDS = 5.0
"""How long a stage that is done waits for Prefect to take its progress."""
_FURTHER = {train_preferences.name: "preferences", train_rewards.name: "rewards"}


def name_training(run: str, stage: str) -> str:
    """Return the name of a training's MLflow run."""
    return f"{run}: {_FURTHER.get(stage, 'training')}"


def training_params(recipe: Recipe, stage: str) -> dict[str, Any]:
    """Return the settings that MLflow shows of a training.

    Args:
        recipe: The recipe.
        stage: The training's stage.
    """
    own = {train_preferences.name: "dpo", train_rewards.name: "grpo"}.get(stage)
    sections = ("method", "training", *([own] if own else []))
    return recipe.model_dump(mode="json", include=set(sections))


class LiveReporter:
    """Passes on what a stage reports, from the moment that it computes.

    Args:
        run: The current run.
        stage: The stage's name.
        key: Its key; a training's MLflow run is found again by it.

    Attributes:
        computed: Whether the stage computed; not where another run did, and this one waited.
    """

    def __init__(self, run: Run, stage: str, key: str) -> None:
        self._run = run
        self._stage = stage
        self._key = key
        self._artifact: UUID | None = None
        self._updated = 0.0
        self._showing: Thread | None = None
        self._training_run = ""
        self.computed = False

    def __enter__(self) -> LiveReporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._showing is not None:
            end = time.monotonic() + _LAST_UPDATE_SECONDS
            self._showing.join(_LAST_UPDATE_SECONDS)
            if error is None and not self._showing.is_alive():
                self._show(100.0, None).join(max(0.0, end - time.monotonic()))
        if self._training_run and self._run.mirror is not None:
            status = ended_as(error) if error is not None else "FINISHED"
            self._run.mirror.close(self._training_run, status)

    def started(self) -> None:
        """Open a training's run in MLflow, with its settings, however the training may end."""
        self.computed = True
        run = self._run
        if isinstance(run, RecipeRun) and run.mirror is not None and self._stage in TRAINING_STAGES:
            self._training_run = run.mirror.open_training(
                run.parent_run, self._key, name_training(run.name, self._stage)
            )
            run.mirror.params(self._training_run, training_params(run.recipe, self._stage))

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how far the stage is; Prefect's artifact is written every two seconds at most.

        One that Prefect is still busy with is not waited for: the next one says more.
        """
        self._run.watcher.progress(self._stage, what, done, total)
        if self._run.direct:
            return
        now = time.monotonic()
        busy = self._showing is not None and self._showing.is_alive()
        if busy or now - self._updated < _SECONDS_BETWEEN_UPDATES:
            return
        self._updated = now
        self._showing = self._show(100.0 * done / max(1, total), f"{what} of {total}")

    def _show(self, percent: float, description: str | None) -> Thread:
        # A thread of its own: an API that takes its time would hold up the stage's events, and one
        # that never answers the end of the process. It has none of the flow's context, by which
        # Prefect knows whose artifact it is.
        given = (self._write_artifact, percent, description)
        thread = Thread(target=copy_context().run, args=given, name="progress", daemon=True)
        thread.start()
        return thread

    def _write_artifact(self, percent: float, description: str | None) -> None:
        if self._artifact is None and description is not None:
            key = f"progress-{self._stage.replace('_', '-')}"
            self._artifact = show(
                create_progress_artifact, percent, key=key, description=description
            )
        elif self._artifact is not None:
            show(update_progress_artifact, self._artifact, progress=percent)

    def metric(self, name: str, value: float, step: int) -> None:
        """Mirror a live figure."""
        if self._run.mirror is not None and self._training_run:
            self._run.mirror.metrics(self._training_run, {name: value}, step)

    def log(self, message: str) -> None:
        """Show a line."""
        self._run.watcher.note(f"{self._stage}: {message}")
