"""A running stage's progress: to the watcher, to Prefect's UI, and its curves to MLflow."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from retune.recipe.recipe import Recipe
from retune.stages import TRAINING_STAGES
from retune.training.stages import train_preferences, train_rewards
from tasks.run import RecipeRun, Run, ended_as

_SECONDS_BETWEEN_UPDATES = 2.0
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
        if self._artifact is not None and error is None:
            update_progress_artifact(self._artifact, progress=100.0)
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
        """Show how far the stage is; Prefect's artifact is written every two seconds at most."""
        self._run.watcher.progress(self._stage, what, done, total)
        if self._run.direct:
            return
        now = time.monotonic()
        if now - self._updated < _SECONDS_BETWEEN_UPDATES:
            return
        self._updated = now
        percent = 100.0 * done / max(1, total)
        if self._artifact is None:
            key = f"progress-{self._stage.replace('_', '-')}"
            found = create_progress_artifact(percent, key=key, description=f"{what} of {total}")
            self._artifact = found if isinstance(found, UUID) else None
        else:
            update_progress_artifact(self._artifact, progress=percent)

    def metric(self, name: str, value: float, step: int) -> None:
        """Mirror a live figure."""
        if self._run.mirror is not None and self._training_run:
            self._run.mirror.metrics(self._training_run, {name: value}, step)

    def log(self, message: str) -> None:
        """Show a line."""
        self._run.watcher.note(f"{self._stage}: {message}")
