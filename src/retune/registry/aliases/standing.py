"""How a registered model stands: what its aliases name, since when, and whether that is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retune.records import Record
from retune.registry.aliases.deciding import APPROVAL_TAG
from retune.registry.ledger.facts import (
    champion_of,
    last_move,
    list_questions,
    say_brought_back,
    withdrawals,
)
from retune.registry.ledger.ledger import Ledger
from retune.registry.mlflow_calls import as_service_error
from retune.registry.records import LedgerEntry
from retune.registry.versions.finding import (
    CHALLENGER,
    CHAMPION,
    DIGEST_TAG,
    PREVIOUS,
    alias_holder,
    get_version,
)
from retune.tracking import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient


class NamedVersion(Record):
    """A version that an alias names."""

    version: int
    digest: str
    """Content digest of its model; empty for one that retune did not register."""
    approval: str
    """What a person said of it, such as `pending`; empty where nobody was asked."""


class ModelStanding(Record):
    """What the aliases of a registered model name; None for an alias that it does not have."""

    model_name: str
    champion: NamedVersion | None
    previous: NamedVersion | None
    challenger: NamedVersion | None
    asked: tuple[NamedVersion, ...] = ()
    """Versions that wait for a person's approval, the first first; `challenger` need not be one."""
    since: LedgerEntry | None
    """The line that made the champion what it is; None where the ledger does not have it."""
    note: str
    """What has to be known of it, such as an alias that was moved by hand; empty for nothing."""


def describe_standing(uri: str, model_name: str, folder: Path) -> ModelStanding:
    """Ask the registry how a model stands; nothing is changed.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        folder: The store's folder of ledgers.

    Raises:
        ArtifactError: The ledger does not hold.
        ServiceError: MLflow does not answer.
    """
    entries = Ledger(uri, model_name, folder).entries()
    with as_service_error(uri):
        client = connect(uri)
        champion = _named(client, model_name, CHAMPION)
        known = champion_of(entries)
        agrees = known == (champion.version if champion else None)
        return ModelStanding(
            model_name=model_name,
            champion=champion,
            previous=_named(client, model_name, PREVIOUS),
            challenger=_named(client, model_name, CHALLENGER),
            asked=tuple(_list_asked(client, model_name, entries)),
            since=last_move(entries) if agrees else None,
            note="" if agrees else _say_moved(model_name, entries, champion),
        )


def _list_asked(
    client: MlflowClient, name: str, entries: Sequence[LedgerEntry]
) -> Iterator[NamedVersion]:
    for each in list_questions(entries):
        found = _described(client, name, each.version)
        if found is not None:
            yield found


def _named(client: MlflowClient, name: str, alias: str) -> NamedVersion | None:
    return _described(client, name, alias_holder(client, name, alias))


def _described(client: MlflowClient, name: str, number: int | None) -> NamedVersion | None:
    version = None if number is None else get_version(client, name, number)
    if version is None:
        return None
    return NamedVersion(
        version=int(version.version),
        digest=version.tags.get(DIGEST_TAG, ""),
        approval=version.tags.get(APPROVAL_TAG, ""),
    )


def _say_moved(name: str, entries: Sequence[LedgerEntry], champion: NamedVersion | None) -> str:
    withdrawn = withdrawals(entries).get(champion.digest) if champion else None
    if champion is not None and withdrawn is not None:
        return say_brought_back(name, champion.version, withdrawn)
    known = champion_of(entries)
    by_ledger = "knows no champion" if known is None else f"has version {known} as champion"
    return (
        f"the ledger {by_ledger}: the alias was moved outside of retune, or a run was stopped "
        "while it moved it. It counts as it stands, and the next run writes it down."
    )
