"""A challenger that a person was asked about, and that does not become champion."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from retune.registry.aliases.deciding import APPROVAL_TAG, refuse_answered
from retune.registry.aliases.moving import hold
from retune.registry.records import LedgerEntry


def refuse_version(
    uri: str,
    model_name: str,
    version: int,
    *,
    folder: Path,
    kind: Literal["rejected", "expired"],
    actor: str,
    reason: str,
    at: str,
    links: dict[str, str],
) -> LedgerEntry:
    """Write down that a version does not become champion; the champion stays.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        version: Its version that waits for an answer.
        folder: The store's folder of ledgers.
        kind: Whether a person said so, or none answered in time.
        actor: Who says so.
        reason: Why.
        at: Date and time of the line, UTC, ISO 8601.
        links: Where to look.

    Returns:
        The ledger's line.

    Raises:
        ArtifactError: Nobody waits for an answer about it any more, or the ledger does not hold.
        ServiceError: MLflow does not answer.
    """
    with hold(uri, model_name, folder) as held:
        refuse_answered(held, version)
        line = held.append(
            LedgerEntry(
                number=0,
                at=at,
                kind=kind,
                model_name=model_name,
                actor=actor,
                from_version=held.champion,
                to_version=held.champion,
                version=version,
                challenger=held.digest_of(version),
                opponent=held.digest_of(held.champion),
                reason=reason,
                links=links,
            )
        )
        held.tag(version, {APPROVAL_TAG: kind})
        return line
