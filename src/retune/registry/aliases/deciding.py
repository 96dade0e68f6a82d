"""What a decision on a version does to the aliases, and to the ledger: once, whoever asks again."""

from __future__ import annotations

import getpass
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from retune.errors import ArtifactError, ConfigError
from retune.registry.aliases.moving import HeldModel, hold
from retune.registry.ledger.facts import (
    earlier_champions,
    find_decided,
    last_move,
    list_questions,
    say_withdrawn,
    withdrawals,
)
from retune.registry.ledger.ledger import say_now
from retune.registry.records import LedgerEntry
from retune.registry.versions.finding import COMPARED_TAG, DIGEST_TAG, get_version, opponent_version

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

APPROVAL_TAG = "retune.approval"
"""Of a version: pending, approved, rejected or expired."""
DRAFT_TAG = "retune.draft"
"""Of a version that the gate decided on: the ledger's line, as it was decided."""
WITHDRAWN_TAG = "retune.withdrawn"
"""Of a version that was rolled back from: why."""
GATE = "gate"
"""Actor of a decision that no person took."""

Verdict = Literal["promoted", "pending", "rejected"]


def name_person() -> str:
    """Return who calls, as the environment names the user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        return f"user {os.getuid()}"


def record_decision(uri: str, folder: Path, draft: LedgerEntry) -> LedgerEntry:
    """Let the gate's decision on a version take effect, and write it down.

    Args:
        uri: Address of MLflow.
        folder: The store's folder of ledgers.
        draft: The line: `kind` is the gate's verdict, and `opponent` the digest of the champion
            that it compared with. Who was champion is filled in.

    Returns:
        The line as it stands; the earlier one where this decision was written down before. Its
        kind is ``rejected`` where the model was withdrawn, whatever the gate says.

    Raises:
        ArtifactError: The champion is no longer the one that was compared with, or the ledger does
            not hold; no alias was moved.
        ServiceError: MLflow does not answer.
    """
    with hold(uri, draft.model_name, folder) as held:
        version = _number(draft)
        beaten = _digest(opponent_version(held.client, held.name, draft.challenger))
        withdrawn = withdrawals(held.entries).get(draft.challenger)
        if withdrawn is not None and draft.kind != "rejected":
            reason = f"{say_withdrawn(withdrawn)}, and does not come back by itself"
            draft = draft.model_copy(update={"kind": "rejected", "reason": reason})
        elif draft.kind != "rejected" and beaten != draft.opponent:
            raise _overtaken(held.name)
        held.tag(
            version,
            {
                COMPARED_TAG: beaten,
                DRAFT_TAG: draft.model_dump_json(),
                "retune.decision": draft.decision,
                "retune.promoted": json.dumps(draft.kind == "promoted"),
                "retune.reasons": draft.reason,
            },
        )
        known = find_decided(held.entries, version, draft.decision)
        if known is not None and _stands(held, known, draft):
            return known
        return _apply(held, draft)


def promote_version(
    uri: str,
    model_name: str,
    version: int,
    *,
    folder: Path,
    actor: str,
    reason: str,
    approved: bool = False,
    allow: bool = False,
    at: str = "",
) -> LedgerEntry:
    """Make a version champion because a person says so.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        version: Its version.
        folder: The store's folder of ledgers.
        actor: Who says so.
        reason: Why.
        approved: Whether that agrees with the gate's decision: the line rests on it then, and the
            champion has to be the one that it compared with.
        allow: Whether a model that was withdrawn may come back.
        at: Date and time of the line, UTC, ISO 8601; empty for now.

    Returns:
        The line; the one that made it champion where it is that already.

    Raises:
        ConfigError: There is no such version, or it was withdrawn.
        ArtifactError: The champion is no longer the one that was compared with, nobody waits for
            an answer about the version, or the ledger does not hold; no alias was moved.
        ServiceError: MLflow does not answer.
    """
    with hold(uri, model_name, folder, accept_withdrawn=allow) as held:
        found = _find_promotable(held, version, allow=allow)
        move = last_move(held.entries)
        if held.champion == version and move is not None:
            return move
        if approved:
            refuse_answered(held, version)
        entry = _read_draft(held, found) if approved else _by_hand(held, found)
        stated = {"kind": "promoted", "actor": actor, "reason": reason, "at": at or say_now()}
        line = _apply(held, entry.model_copy(update=stated))
        if approved or found.tags.get(APPROVAL_TAG) == "pending":
            held.tag(version, {APPROVAL_TAG: "approved"})
        return line


def check_promotable(
    uri: str, model_name: str, version: int, *, folder: Path, allow: bool = False
) -> None:
    """Refuse to promote what cannot be promoted, before anything is proved or moved.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        version: Its version.
        folder: The store's folder of ledgers.
        allow: Whether a model that was withdrawn may come back.

    Raises:
        ConfigError: There is no such version, or it was withdrawn.
        ArtifactError: The ledger does not hold.
        ServiceError: MLflow does not answer.
    """
    with hold(uri, model_name, folder, accept_withdrawn=allow) as held:
        _find_promotable(held, version, allow=allow)


def _find_promotable(held: HeldModel, version: int, *, allow: bool) -> ModelVersion:
    found = get_version(held.client, held.name, version)
    if found is None:
        raise ConfigError(f"models:/{held.name}: there is no version {version} to promote.")
    withdrawn = withdrawals(held.entries).get(_digest(found) or "none")
    # One that is champion all the same has come back already.
    if withdrawn is not None and not allow and held.champion != version:
        raise ConfigError(
            f"{held.name} version {version} is not promoted: {say_withdrawn(withdrawn)}. "
            "Promote it all the same with --allow."
        )
    return found


def refuse_answered(held: HeldModel, version: int) -> None:
    """Refuse an answer about a version that nobody waits for.

    Args:
        held: The registered model.
        version: The version that was answered about.

    Raises:
        ArtifactError: It was not asked about, or what came of it is written down already.
    """
    if version not in {each.version for each in list_questions(held.entries)}:
        raise ArtifactError(
            f"{held.name}: no answer about version {version} is waited for: it was answered or "
            "decided on again since, or nobody was asked. The champion stays. Look with `retune "
            f"history {held.name}`; a person makes it champion with `retune promote {held.name} "
            f"{version} --reason TEXT`."
        )


def find_target(
    uri: str, model_name: str, *, to: int | None, folder: Path, allow: bool = False
) -> tuple[int, int]:
    """Say what a rollback takes back, and where it goes, before anything is proved or moved.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        to: A version that was champion; None for the last one that was not withdrawn.
        folder: The store's folder of ledgers.
        allow: Whether it may go to a model that was withdrawn.

    Returns:
        The champion, and the version that is to be champion.

    Raises:
        ConfigError: There is no champion, or nothing such to go back to.
        ArtifactError: The ledger does not hold.
        ServiceError: MLflow does not answer.
    """
    with hold(uri, model_name, folder, accept_withdrawn=True) as held:
        champion = held.champion
        if champion is None:
            raise ConfigError(
                f"{model_name} has no champion, so there is nothing to take back. Make a version "
                f"champion with `retune promote {model_name} VERSION --reason TEXT`."
            )
        earlier = [each for each in earlier_champions(held.entries) if _exists(held, each)]
        if to is None:
            if not earlier:
                raise ConfigError(
                    f"{model_name}: version {champion} is champion, and there is no earlier one "
                    "that was not withdrawn. Name a version with --to."
                )
            return champion, earlier[0]
        _check_target(held, champion, to, allow=allow)
        return champion, to


def roll_back(
    uri: str,
    model_name: str,
    *,
    taken_back: int,
    to: int,
    folder: Path,
    actor: str,
    reason: str,
) -> LedgerEntry:
    """Make an earlier version champion again, and withdraw the model that is champion now.

    Args:
        uri: Address of MLflow.
        model_name: The registered model.
        taken_back: The champion, of `find_target`.
        to: The version that it goes back to, proved by `prove_version`.
        folder: The store's folder of ledgers.
        actor: Who wants it.
        reason: Why.

    Returns:
        The ledger's line.

    Raises:
        ArtifactError: Somebody else moved the champion meanwhile, or the ledger does not hold; no
            alias was moved.
        ServiceError: MLflow does not answer.
    """
    with hold(uri, model_name, folder, accept_withdrawn=True) as held:
        if held.champion != taken_back or not _exists(held, to):
            raise ArtifactError(
                f"{model_name}: the champion was version {taken_back} and is {held.champion} now, "
                f"or version {to} is gone: somebody changed it meanwhile. No alias was moved. Look "
                f"with `retune history {model_name}`."
            )
        entry = LedgerEntry(
            number=0,
            at=say_now(),
            kind="rolled_back",
            model_name=model_name,
            actor=actor,
            from_version=taken_back,
            to_version=to,
            version=taken_back,
            challenger=held.digest_of(taken_back),
            opponent=held.digest_of(to),
            reason=reason,
        )
        line = held.move(entry, challenger=_without(held, to))
        held.tag(taken_back, {WITHDRAWN_TAG: reason})
        _clear_withdrawal(held, to)
        return line


def _apply(held: HeldModel, entry: LedgerEntry) -> LedgerEntry:
    """Move the aliases as a line's kind says, and write it."""
    version, champion = _number(entry), held.champion
    moves = entry.kind == "promoted"
    stated = {"from_version": champion, "to_version": version if moves else champion}
    entry = entry.model_copy(update=stated)
    if moves:
        line = held.move(entry, challenger=_without(held, version))
        _clear_withdrawal(held, version)
        return line
    if entry.kind == "pending":
        held.tag(version, {APPROVAL_TAG: "pending"})
    return held.move(entry, challenger=version)


def _stands(held: HeldModel, known: LedgerEntry, draft: LedgerEntry) -> bool:
    """Tell whether a decision that was written down needs nothing more."""
    if draft.kind == "promoted":
        return known.kind == "promoted" and held.champion == draft.version
    if draft.kind == "pending":
        return True  # what a person said of it since is not asked again
    return known.kind == draft.kind and held.challenger is not None


def _read_draft(held: HeldModel, version: ModelVersion) -> LedgerEntry:
    text = version.tags.get(DRAFT_TAG)
    if text is None:
        raise ArtifactError(
            f"{held.name} version {version.version} has no decision of the gate to agree with "
            f"(tag {DRAFT_TAG}). Promote it as a person's act, with `retune promote`."
        )
    draft = LedgerEntry.model_validate_json(text)
    if draft.opponent != held.digest_of(held.champion):
        raise _overtaken(held.name)
    return draft


def _by_hand(held: HeldModel, version: ModelVersion) -> LedgerEntry:
    return LedgerEntry(
        number=0,
        at="",
        kind="promoted",
        model_name=held.name,
        actor="",
        version=int(version.version),
        challenger=_digest(version),
        opponent=held.digest_of(held.champion),
        reason="",
    )


def _check_target(held: HeldModel, champion: int, to: int, *, allow: bool) -> None:
    name = held.name
    if to == champion:
        raise ConfigError(f"{name}: version {to} is champion; there is nothing to take back.")
    if not _exists(held, to):
        raise ConfigError(f"models:/{name}: there is no version {to} to go back to.")
    if to not in {each.to_version for each in held.entries}:
        raise ConfigError(
            f"{name}: version {to} was never champion, so going back to it is no rollback. Make it "
            f"champion with `retune promote {name} {to} --reason TEXT`."
        )
    withdrawn = withdrawals(held.entries).get(held.digest_of(to) or "none")
    if withdrawn is not None and not allow:
        raise ConfigError(
            f"{name} version {to} is not gone back to: {say_withdrawn(withdrawn)}. Go back to it "
            "all the same with --allow."
        )


def _overtaken(name: str) -> ArtifactError:
    return ArtifactError(
        f"{name}: another run changed the champion while this one was being decided, so the "
        "decision does not say whether this model is better than it. No alias was moved. Run "
        "again: only the comparison with the new champion is computed."
    )


def _without(held: HeldModel, champion: int) -> int | None:
    challenger = held.challenger
    return None if challenger == champion else challenger


def _clear_withdrawal(held: HeldModel, version: int) -> None:
    found = get_version(held.client, held.name, version)
    if found is not None and WITHDRAWN_TAG in found.tags:
        held.client.delete_model_version_tag(held.name, str(version), WITHDRAWN_TAG)


def _exists(held: HeldModel, version: int) -> bool:
    return get_version(held.client, held.name, version) is not None


def _digest(version: ModelVersion | None) -> str:
    return version.tags.get(DIGEST_TAG, "") if version else ""


def _number(entry: LedgerEntry) -> int:
    if entry.version is None:
        raise ArtifactError(f"{entry.model_name}: a decision on no version cannot move an alias.")
    return entry.version
