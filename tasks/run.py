"""One run of a flow: its recipe, store, stage process, MLflow mirror and watcher."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from retune.explaining import Lookup, effect_gone, look_up
from retune.recipe.loading import LoadedRecipe
from retune.records import ContentRecord, Record
from retune.stage import Reporter, Stage, StageRequest, key_parts, run_stage, stage_key
from retune.stage_process import StageProcess
from retune.store import Store
from retune.tracking import Mirror
from retune.watching import StageLine, Watcher


@dataclass
class Run:
    """What the stages of one flow run share.

    Attributes:
        name: Shown name.
        settings: Where stages find their sections by name: a recipe, or a flow's own settings.
        store: Where artifacts are.
        process: Where torch work runs; started by the first stage that needs it.
        watcher: Who is told.
        mirror: Where MLflow is written; None while planning.
        parent_run: MLflow id of this flow run.
        planning: True when stages are looked up but never run.
        direct: True when stages run right here, without Prefect's server: for a look at the data.
        lines: The stages so far.
    """

    name: str
    settings: BaseModel
    store: Store
    process: StageProcess
    watcher: Watcher
    mirror: Mirror | None = None
    parent_run: str = ""
    planning: bool = False
    direct: bool = False
    context: dict[str, str] = field(default_factory=dict)
    lines: list[StageLine] = field(default_factory=list)

    def request(self, stage: Stage[Any], inputs: dict[str, Any]) -> tuple[StageRequest, Lookup]:
        """Build a stage's request from the recipe, and look its key up in the store.

        Args:
            stage: The table's entry.
            inputs: Input records by name.

        Returns:
            The request, and whether the store has it.
        """
        typed = stage.inputs.model_validate(inputs)
        section = self._section(stage.section)
        parts = key_parts(stage, typed, section)
        request = StageRequest(
            stage=stage.name,
            key=stage_key(parts),
            inputs=typed.model_dump(mode="json"),
            section=section.model_dump(mode="json"),
            store=self.store.root,
            context=self.context,
        )
        return request, look_up(self.store, stage, request, parts)

    def compute(self, stage: Stage[Any], request: StageRequest, reporter: Reporter) -> None:
        """Run a stage, in the stage process where it needs torch, else here."""
        if stage.on_device and not self.direct:
            self.process.run(request, reporter)
        else:
            run_stage(stage, request, reporter)

    def is_stored(self, stage: Stage[Any], request: StageRequest) -> bool:
        """Say whether a stage need not run, its effect outside the store included."""
        if self.store.damage(stage.name, request.key) is not None:
            return False
        return effect_gone(self.store, stage, request) is None

    def load(self, stage: Stage[Any], request: StageRequest) -> ContentRecord:
        """Return a stored record."""
        record: ContentRecord = self.store.load(stage.name, request.key, stage.output)
        return record

    def _section(self, section: type[Record]) -> Record:
        return section.model_validate(
            {name: getattr(self.settings, name) for name in section.model_fields}
        )


@dataclass(kw_only=True)
class RecipeRun(Run):
    """A run of a recipe.

    Attributes:
        loaded: The recipe, and where its paths start.
    """

    loaded: LoadedRecipe


CURRENT: ContextVar[Run] = ContextVar("retune_run")
"""The run whose tasks are being called; Prefect passes contexts on to tasks."""


@contextmanager
def open_run(run: Run) -> Iterator[None]:
    """Make a run the current one, and end its process when the block ends."""
    token = CURRENT.set(run)
    try:
        yield
    finally:
        CURRENT.reset(token)
        run.process.stop()


def stage_log(store: Store) -> Path:
    """Return the file that this flow's stage process writes to."""
    return store.root / "logs" / f"stages-{os.getpid()}.log"
