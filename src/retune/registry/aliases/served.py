"""What a server says of a version that an alias names, and that does not answer there."""

from __future__ import annotations

from pathlib import Path

from retune.data.quality.sensitive import redact
from retune.registry.aliases.moving import hold
from retune.registry.ledger.facts import Entries, last_move
from retune.registry.ledger.ledger import say_now
from retune.registry.records import LedgerEntry, ServedKind


def note_served(
    uri: str,
    model_name: str,
    version: int,
    *,
    folder: Path,
    kind: ServedKind,
    actor: str,
    reason: str,
) -> LedgerEntry | None:
    """Write down that a server does not answer with a version; no alias moves.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        version: Its version.
        folder: The store's folder of ledgers.
        kind: Whether it was not let in, or answered no more.
        actor: Which server.
        reason: Why; secrets and personal data are taken out.

    Returns:
        The ledger's line; None where this server has said the same since the champion last moved,
        as one does that is started again.

    Raises:
        ArtifactError: The ledger does not hold.
        ServiceError: MLflow does not answer, or somebody else holds the model.
    """
    with hold(uri, model_name, folder, accept_withdrawn=True) as held:
        entry = LedgerEntry(
            number=0,
            at=say_now(),
            kind=kind,
            model_name=model_name,
            actor=actor,
            from_version=held.champion,
            to_version=held.champion,
            version=version,
            challenger=held.digest_of(version),
            reason=redact(reason),
        )
        return None if _is_said(entry, held.entries) else held.append(entry)


def _is_said(entry: LedgerEntry, entries: Entries) -> bool:
    move = last_move(entries)
    since = entries[move.number if move else 0 :]
    told = (entry.kind, entry.version, entry.actor, entry.reason)
    return any((each.kind, each.version, each.actor, each.reason) == told for each in since)
