"""The page of a registered model: on disk, in MLflow's run, and in Prefect's flow run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from httpx import HTTPError
from prefect.artifacts import create_table_artifact
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from retune.errors import RetuneError
from retune.registry.ledger.ledger import LEDGERS, Ledger
from retune.registry.records import LedgerEntry, VersionManifest
from retune.registry.versions.manifests import MANIFESTS, read_manifests
from retune.registry.versions.outcome_tags import send_page
from retune.release.overview import gather_overview, write_overview
from tasks.runs.prefect_api import show
from tasks.runs.run import RecipeRun

_MOST_LINES = 50


def report_overview(run: RecipeRun) -> None:
    """Write the page of a run's registered model, and give it to MLflow and Prefect.

    Args:
        run: A run that has decided; while it is planning nothing is written.

    Raises:
        ArtifactError: The ledger does not hold.
        ServiceError: MLflow does not answer.
    """
    if run.planning or run.mirror is None:
        return
    history = _read_history(*_place_of(run))
    page = _write(*_place_of(run)[1:], *history)
    run.mirror.artifact(run.parent_run, page, "overview")
    _show_in_prefect(run.recipe.registry.model_name, *history, page)


def report_change(
    uri: str, name: str, store: Path, version: int, tell: Callable[[str], None]
) -> None:
    """Write the page after somebody else than a run changed the model; MLflow and Prefect get it.

    What was done stands whatever becomes of the page: where it cannot be written, that is told.

    Args:
        uri: Address of MLflow.
        name: The registered model.
        store: The store's folder.
        version: The version whose run in MLflow gets the page.
        tell: Given one sentence where something went wrong.
    """
    try:
        history = _read_history(uri, name, store)
        page = _write(name, store, *history)
        send_page(uri, name, version, page)
        if flow_run.id:
            _show_in_prefect(name, *history, page)
    except (RetuneError, OSError, PrefectException, HTTPError) as error:
        tell(f"the page of {name} does not show it yet: {error}")


def _show_in_prefect(
    name: str, versions: list[VersionManifest], entries: tuple[LedgerEntry, ...], page: Path
) -> None:
    lines = gather_overview(name, versions, entries).lines[:_MOST_LINES]
    show(
        create_table_artifact,
        key="overview",
        description=f"{name}: its history, latest first. The whole page: {page}",
        table=[
            {
                "when": line.at,
                "what": line.word,
                "version": line.version,
                "figure": line.figure,
                "why": line.reason,
                "cost": line.cost,
                "by": line.actor,
            }
            for line in lines
        ],
    )


def write_page(run: RecipeRun) -> Path:
    """Write the page of a recipe's registered model, as it stands now.

    Args:
        run: Of the recipe.

    Returns:
        The page.

    Raises:
        ArtifactError: The ledger does not hold.
        ServiceError: MLflow does not answer.
    """
    place = _place_of(run)
    return _write(*place[1:], *_read_history(*place))


def _place_of(run: RecipeRun) -> tuple[str, str, Path]:
    return run.context["tracking_uri"], run.recipe.registry.model_name, run.store.root


def _read_history(
    uri: str, name: str, store: Path
) -> tuple[list[VersionManifest], tuple[LedgerEntry, ...]]:
    entries = Ledger(uri, name, store / LEDGERS).entries()
    versions = sorted({each.version for each in entries if each.version is not None})
    return read_manifests(uri, name, versions, store / MANIFESTS), entries


def _write(
    name: str,
    store: Path,
    versions: list[VersionManifest],
    entries: tuple[LedgerEntry, ...],
) -> Path:
    return write_overview(name, versions, entries, store / "reports" / f"overview-{name}")
