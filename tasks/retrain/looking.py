"""How a model stands when it is asked whether to retrain: aliases, ledger, manifests, the time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from prefect.runtime import flow_run

from retune.inputs import Inputs, locate_inputs
from retune.recipe.sections import RetrainConfig
from retune.registry.aliases.standing import ModelStanding, NamedVersion, describe_standing
from retune.registry.ledger.ledger import LEDGERS, Ledger
from retune.registry.mlflow_calls import as_service_error
from retune.registry.records import LedgerEntry, VersionManifest
from retune.registry.versions.manifests import find_rows, read_manifest
from retune.retraining.approving import Due, judge_due
from retune.retraining.clock import as_utc
from retune.retraining.triggers import find_equal_version, find_tried
from retune.tracking import check_tracking
from retune.tracking.left_runs import has_run_of
from tasks.remembering import manifests_of
from tasks.runs.run import RecipeRun


@dataclass(frozen=True)
class Look:
    """A look at whether to retrain: the model as it stands, and the time that it is.

    Attributes:
        run: A run of the recipe; nothing that it needs to compute needs a model.
        at: The time that it is taken to be, UTC.
        force: Whether a person wants it whatever the triggers say.
        again: Whether this flow run was started before, and goes on with what it trained then.
        standing: Champion and challenger.
        entries: The model's ledger.
    """

    run: RecipeRun
    at: datetime
    force: bool
    again: bool
    standing: ModelStanding
    entries: tuple[LedgerEntry, ...]

    @property
    def config(self) -> RetrainConfig:
        """The recipe's section."""
        return self.run.recipe.retrain

    @property
    def model_name(self) -> str:
        """The registered model."""
        return self.run.recipe.registry.model_name

    @property
    def uri(self) -> str:
        """Address of MLflow."""
        return self.run.context["tracking_uri"]

    @cached_property
    def dues(self) -> tuple[Due, ...]:
        """What is due for the challengers that a person was asked about; empty for none."""
        hours = self.run.recipe.registry.approval_hours
        return judge_due(self.standing, self.entries, hours, self.at)

    @cached_property
    def inputs(self) -> Inputs:
        """The recipe's files; its model's weights only where a training is to be timed."""
        return locate_inputs(self.run.loaded, with_weights=self.asks_cost)

    @cached_property
    def equal_version(self) -> VersionManifest | None:
        """The manifest of champion or challenger where every source is one of its own."""
        sources = [row.located.source.digest for row in self.inputs.rows]
        holders = [self.standing.champion, self.standing.challenger]
        found = [_read_manifest(self, each) for each in holders if each is not None]
        return find_equal_version(sources, [each for each in found if each is not None])

    @cached_property
    def champion_rows(self) -> Path | None:
        """The file of rows that the champion, or a version before it, knows."""
        champion, folder = self.standing.champion, manifests_of(self.run)
        if champion is None:
            return None
        return find_rows(self.uri, self.model_name, champion.version, folder)

    @cached_property
    def tried_rows(self) -> tuple[int, Path] | None:
        """The last challenger that lost to this champion, and the file of rows that it knows."""
        version = find_tried(self.standing, self.entries)
        if version is None:
            return None
        rows = find_rows(self.uri, self.model_name, version, manifests_of(self.run))
        return None if rows is None else (version, rows)

    @property
    def goes_on(self) -> bool:
        """Whether nothing but cost holds a training back: a person, or a start before, wants it."""
        return self.force or self.again

    @property
    def asks_cost(self) -> bool:
        """Whether the recipe bounds what a training may take."""
        return self.config.max_hours is not None or self.config.max_cost is not None

    @property
    def reads_rows(self) -> bool:
        """Whether the answer rests on the rows themselves."""
        triggers = self.config.triggers
        if self.asks_cost or (self.standing.champion and (triggers.drift or triggers.degraded)):
            return True
        asked = self.config.triggers.new_rows is not None and self.champion_rows is not None
        return asked and self.equal_version is None


def open_ledger(run: RecipeRun) -> Ledger:
    """Return the ledger of the model that a recipe registers."""
    uri, name = run.context["tracking_uri"], run.recipe.registry.model_name
    return Ledger(uri, name, ledger_folder(run))


def ledger_folder(run: RecipeRun) -> Path:
    """Return the folder of ledgers in a run's store."""
    return run.store.root / LEDGERS


def look_around(run: RecipeRun, *, at: datetime | None, force: bool = False) -> Look:
    """Find what a decision to retrain rests on.

    Args:
        run: A run of the recipe.
        at: The time that it is taken to be; None for the start that Prefect planned, else now.
        force: Whether a person wants it whatever the triggers say.

    Returns:
        The look.

    Raises:
        ArtifactError: The ledger does not hold.
        ServiceError: MLflow does not answer.
    """
    check_tracking(run.context["tracking_uri"])
    uri, folder = run.context["tracking_uri"], ledger_folder(run)
    name = run.recipe.registry.model_name
    return Look(
        run=run,
        at=as_utc(at or flow_run.scheduled_start_time or datetime.now(UTC)),
        force=force,
        again=_has_trained(run),
        standing=describe_standing(uri, name, folder),
        entries=Ledger(uri, name, folder).entries(),
    )


def _has_trained(run: RecipeRun) -> bool:
    """Tell whether an earlier try of this flow run got as far as a run in MLflow.

    One that failed before, in its look, was not yet found worth a training: it has to look again.
    """
    uri = run.context["tracking_uri"]
    if (flow_run.run_count or 0) <= 1:
        return False
    with as_service_error(uri):
        return has_run_of(uri, run.context["experiment"], str(flow_run.id))


def _read_manifest(look: Look, holder: NamedVersion) -> VersionManifest | None:
    return read_manifest(look.uri, look.model_name, holder.version, manifests_of(look.run))
