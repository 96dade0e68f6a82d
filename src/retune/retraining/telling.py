"""The ledger's lines on a retraining that trained nothing, or failed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from retune.registry.ledger.facts import OF_SERVERS
from retune.registry.records import LedgerEntry, LedgerKind
from retune.retraining.clock import write_moment
from retune.retraining.findings import Assessment

ACTOR = "retrain"
"""Who writes lines that no gate and no person decided on."""


def make_entry(
    kind: LedgerKind,
    model_name: str,
    reason: str,
    at: datetime,
    *,
    champion: int | None,
    figures: dict[str, float] | None = None,
    links: dict[str, str] | None = None,
) -> LedgerEntry:
    """Return a line after which the champion is the same as before.

    Args:
        kind: What happened.
        model_name: The registered model.
        reason: Why, for a person.
        at: When.
        champion: Its version, before and after.
        figures: Numbers by name.
        links: Where to look.

    Returns:
        The line; the ledger gives it number and digests.
    """
    return LedgerEntry(
        number=0,
        at=write_moment(at),
        kind=kind,
        model_name=model_name,
        actor=ACTOR,
        from_version=champion,
        to_version=champion,
        reason=reason,
        figures=figures or {},
        links=links or {},
    )


def list_answers(assessment: Assessment) -> dict[str, float]:
    """Return what each trigger and bound answered, as figures: 1 for yes, 0 for no."""
    fired = {f"{each.trigger}.fires": float(each.fires) for each in assessment.triggers}
    held = {f"{each.bound}.holds_back": float(each.holds_back) for each in assessment.bounds}
    return fired | held


def repeats_last(entry: LedgerEntry, entries: Sequence[LedgerEntry]) -> bool:
    """Say whether the last line is a skip for the same causes, so that one more says nothing new.

    What servers said since is about something else.

    Args:
        entry: A skip.
        entries: The ledger.
    """
    last = next((each for each in reversed(entries) if each.kind not in OF_SERVERS), None)
    return last is not None and last.kind == "skipped" and last.figures == entry.figures
