"""What came of one start of the flow `retrain`."""

from __future__ import annotations

from typing import Literal

from retune.records import Record
from retune.registry.aliases.standing import ModelStanding
from retune.release.summary import RunSummary
from retune.retraining.findings import Assessment

Outcome = Literal["promoted", "rejected", "unchanged", "awaiting_approval", "expired", "skipped"]


class RetrainSummary(Record):
    """One start of the flow: the JSON of `retune retrain --json`."""

    recipe: str
    model_name: str
    at: str
    """The time that it was taken to be, UTC, ISO 8601."""
    outcome: Outcome
    """`unchanged`: nothing that the challenger is made of moved, so that it was decided before."""
    reason: str
    assessment: Assessment
    champion: int | None
    """Version that is champion afterwards."""
    run: RunSummary | None = None
    """None where nothing was trained."""


def judge_outcome(
    before: ModelStanding, after: ModelStanding, run: RunSummary
) -> tuple[Outcome, str]:
    """Say what a run did to the model, and why.

    Args:
        before: Aliases before it.
        after: Aliases after it.
        run: What it found.

    Returns:
        The outcome, and its reason.
    """
    version, reasons = run.registered.version, "; ".join(run.decision.reasons)
    told = run.registered.held_back or reasons
    was = before.champion.version if before.champion else None
    if after.champion is not None and after.champion.version == version:
        if was != version:
            return "promoted", told
        return "unchanged", f"the challenger is version {version}, the champion itself"
    challenger = after.challenger
    waits = challenger is not None and challenger.approval == "pending"
    if waits and challenger is not None and challenger.version == version:
        return "awaiting_approval", f"version {version} waits for a person's approval: {reasons}"
    registering = next((each for each in run.stages if each.name == "register_model"), None)
    if registering is not None and registering.state == "reused":
        return "unchanged", f"the challenger is version {version}, which was decided on already"
    return "rejected", told


def list_gains(run: RunSummary) -> dict[str, float]:
    """Return the comparisons of a decision as figures.

    Args:
        run: What a run found.

    Returns:
        Differences and their intervals, such as ``champion.perplexity.low``.
    """
    found = {"version": float(run.registered.version)}
    for each in run.decision.comparisons:
        name = f"{each.against}.{each.metric}"
        parts = {name: each.difference, f"{name}.low": each.low, f"{name}.high": each.high}
        found |= {key: value for key, value in parts.items() if value is not None}
    return found
