"""A challenger that the gate would promote, where a person has to agree: what is due now.

The ledger's line ``pending`` says when a person was asked, and the tag of the version in MLflow
what was answered, from whichever client. MLflow does not say when a tag was set: an answer counts
until it was written down that none came in time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Literal

from retune.records import Record
from retune.registry.aliases.standing import ModelStanding, NamedVersion
from retune.registry.ledger.facts import list_questions
from retune.registry.records import LedgerEntry
from retune.retraining.clock import read_moment
from retune.retraining.findings import BoundFinding
from retune.score_records import FigureDifference, GateDecision, GuardFinding
from retune.scoring.showing import label_of, show_difference, show_margin, show_rows


class Due(Record):
    """What is due for a challenger that a person was asked about."""

    act: Literal["wait", "promote", "reject", "expire"]
    version: int
    reason: str


def judge_due(
    standing: ModelStanding, entries: Sequence[LedgerEntry], hours: float, at: datetime
) -> tuple[Due, ...]:
    """Say what is due for the challengers that wait for a person.

    Args:
        standing: Champion and those that wait as the registry has them.
        entries: The model's ledger.
        hours: How long an answer is waited for.
        at: The time that it is.

    Returns:
        What is due for each, the first asked first; empty where nobody was asked, or all is
        written down.
    """
    questions = {each.version: each for each in list_questions(entries)}
    champion = standing.champion
    # One that a person made champion in MLflow has its answer: the next decision writes it down.
    waiting = (each for each in standing.asked if champion is None or champion != each)
    digest = champion.digest if champion else ""
    return tuple(_judge(each, questions[each.version], digest, hours, at) for each in waiting)


def _judge(
    waiting: NamedVersion, asked: LedgerEntry, champion: str, hours: float, at: datetime
) -> Due:
    version, answer = waiting.version, waiting.approval
    if answer == "rejected":
        return Due(act="reject", version=version, reason="a person rejected it by its tag")
    if asked.opponent != champion:
        reason = "the champion is another one than it was compared with: the decision says nothing"
        return Due(act="expire", version=version, reason=reason)
    if answer == "approved":
        return Due(act="promote", version=version, reason="a person approved it by its tag")
    until = find_deadline(asked, hours)
    if at >= until:
        reason = f"expired: no answer came by {until.isoformat()}, so the champion stays"
        return Due(act="expire", version=version, reason=reason)
    reason = f"version {version} waits for approval until {until.isoformat()}"
    return Due(act="wait", version=version, reason=reason)


def find_deadline(asked: LedgerEntry, hours: float) -> datetime:
    """Return until when an answer is waited for.

    Args:
        asked: The line by which a person was asked.
        hours: How long that is.
    """
    return read_moment(asked.at) + timedelta(hours=hours)


def judge_waiting(dues: Sequence[Due]) -> tuple[BoundFinding, ...]:
    """Answer whether challengers that wait for a person keep another from being trained.

    Args:
        dues: What is due for them.
    """
    if not dues:
        return ()
    holds_back = any(each.act == "wait" for each in dues)
    reason = "; ".join(each.reason for each in dues)
    return (BoundFinding(bound="approval", holds_back=holds_back, reason=reason),)


def say_decision(model_name: str, version: int, decision: GateDecision, hours: float) -> str:
    """Return what a person needs in order to answer, as Markdown.

    Args:
        model_name: The registered model.
        version: The challenger.
        decision: What the gate says of it.
        hours: How long an answer is waited for.
    """
    level = f"intervals of {100 * (1 - decision.alpha):.4g} %"
    blocks = [
        f"### {model_name} version {version} could become champion",
        f"**{label_of(decision.metric)}** decides, with {level}.",
        *_tables(decision),
        *decision.notes,
        f"Without an answer in {hours:g} hours the champion stays.",
    ]
    return "\n\n".join(blocks)


def _tables(decision: GateDecision) -> Iterator[str]:
    """Write a table for each opponent: the dialog is narrow, so what counts stands first."""
    rows = [
        *((c.against, _row(label_of(c.metric), c.verdict, c)) for c in decision.comparisons),
        *((guard.against, _row(*_say_guard(guard), guard)) for guard in decision.guards),
        *((s.against, _row(f"{s.by} {s.part}", s.verdict, s)) for s in decision.slices),
    ]
    for opponent in ("champion", "base"):
        told = [row for against, row in rows if against == opponent]
        if told:
            head = (f"| against the {opponent} | is | by | rows |", "|---|---|---|---:|")
            yield "\n".join([*head, *told])


def _say_guard(guard: GuardFinding) -> tuple[str, str]:
    name = f"guard: {label_of(guard.metric)}, margin {show_margin(guard)}"
    return name, "held" if guard.holds else "not shown"


def _row(name: str, verdict: str, compared: FigureDifference) -> str:
    rows = show_rows(compared.n, compared.groups)
    # A part is named after people's values: a bar in one of them is no cell's end.
    # In the dialog the interval has no room beside its difference.
    difference = show_difference(compared).replace(" [", "<br>[")
    cells = (name.replace("|", "\\|"), verdict, difference, rows)
    return f"| {' | '.join(cells)} |"
