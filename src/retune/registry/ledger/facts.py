"""What the lines of a ledger say together: who is champion, who was, and what was withdrawn."""

from __future__ import annotations

from collections.abc import Sequence

from retune.registry.records import LedgerEntry, LedgerKind

Entries = Sequence[LedgerEntry]

OF_SERVERS: tuple[LedgerKind, ...] = ("refused", "let_go")
"""Lines that say what became of a version at a server, and nothing of what was decided on it."""

_ABOUT_IT: tuple[LedgerKind, ...] = ("pending", "promoted", "approved", "rejected", "expired")
_MOVES: tuple[LedgerKind, ...] = ("promoted", "rolled_back", "withdrawn")


def last_move(entries: Entries) -> LedgerEntry | None:
    """Return the line that made the champion what it is; None where none did."""
    return next((each for each in reversed(entries) if each.kind in _MOVES), None)


def champion_of(entries: Entries) -> int | None:
    """Return the version that is champion by a ledger; None for none."""
    move = last_move(entries)
    return move.to_version if move else None


def withdrawals(entries: Entries) -> dict[str, LedgerEntry]:
    """Return the lines that took a model back, by the model's digest.

    A model that a person made champion again later is not withdrawn any more.
    """
    found: dict[str, LedgerEntry] = {}
    for each in entries:
        if each.kind == "rolled_back" and each.challenger:
            found.pop(each.opponent, None)
            found[each.challenger] = each
        elif each.kind == "promoted":
            found.pop(each.challenger, None)
    return found


def earlier_champions(entries: Entries) -> list[int]:
    """Return the versions that were champion before the current one, the last first.

    Those that were rolled back from, and not promoted again, are left out.
    """
    current = champion_of(entries)
    taken_back = {each.version for each in withdrawals(entries).values()}
    found = [each.to_version for each in reversed(entries) if each.kind in _MOVES]
    kept = (each for each in found if each not in (None, current) and each not in taken_back)
    return [each for each in dict.fromkeys(kept) if each is not None]


def find_decided(entries: Entries, version: int, decision: str) -> LedgerEntry | None:
    """Return the last line of a decision on a version; None where it is not written down yet."""
    same = (each for each in reversed(entries) if each.version == version)
    return next((each for each in same if each.decision == decision), None)


def list_questions(entries: Entries) -> tuple[LedgerEntry, ...]:
    """Return the lines by which a person was asked about a version, and still is, the first first.

    Whichever version is challenger by now: another one may have been trained by hand meanwhile.
    """
    last = {each.version: each for each in entries if each.kind in _ABOUT_IT}
    return tuple(each for each in entries if each.kind == "pending" and last[each.version] is each)


def say_withdrawn(line: LedgerEntry) -> str:
    """Return when, by whom and why a model was withdrawn, for a message."""
    day = line.at.partition("T")[0]
    return f"it was withdrawn on {day} by {line.actor} (ledger line {line.number}: {line.reason})"


def say_brought_back(model_name: str, version: int | None, line: LedgerEntry) -> str:
    """Return why nothing is decided while a withdrawn model is champion, for a message.

    Args:
        model_name: The registered model.
        version: The champion.
        line: By which it was withdrawn.
    """
    return (
        f"the alias champion was moved by hand to version {version}, and {say_withdrawn(line)}. "
        f"Nothing is decided until that is settled. Keep it with `retune promote {model_name} "
        f"{version} --allow --reason TEXT`, or go back with `retune rollback {model_name}`."
    )
