"""What is due for a challenger that a person was asked about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from retune.registry.aliases.standing import ModelStanding, NamedVersion
from retune.registry.ledger.facts import list_questions
from retune.registry.records import LedgerEntry
from retune.retraining.approving import Due, judge_due, judge_waiting, say_decision
from retune.score_records import Comparison, GateDecision, GuardFinding, SliceFinding

ASKED = datetime(2026, 11, 26, 3, tzinfo=UTC)
LATER = ASKED + timedelta(hours=71)


def standing(approval: str, entries: tuple[LedgerEntry, ...], champion: str) -> ModelStanding:
    """Return a model whose version 3 is champion; another one than 4 was trained since."""
    waits = any(each.version == 4 for each in list_questions(entries))
    return ModelStanding(
        model_name="m",
        champion=NamedVersion(version=3, digest=champion, approval=""),
        previous=None,
        challenger=NamedVersion(version=5, digest="newer", approval=""),
        asked=(NamedVersion(version=4, digest="new", approval=approval),) if waits else (),
        since=None,
        note="",
    )


def line(kind: Any = "pending", version: int = 4) -> LedgerEntry:
    """Return a line on a version that was compared with the champion `old`."""
    return LedgerEntry(
        number=1,
        at=ASKED.isoformat(),
        kind=kind,
        model_name="m",
        actor="gate",
        version=version,
        opponent="old",
        reason="better",
    )


def due(
    approval: str, *lines: LedgerEntry, at: datetime = LATER, champion: str = "old"
) -> Due | None:
    """Return what is due where an answer is waited for over 72 hours."""
    entries = lines or (line(),)
    return next(iter(judge_due(standing(approval, entries, champion), entries, 72, at)), None)


@pytest.mark.parametrize(
    ("approval", "at", "act"),
    [
        ("pending", LATER, "wait"),
        ("pending", ASKED + timedelta(hours=72), "expire"),
        ("approved", LATER, "promote"),
        ("rejected", LATER, "reject"),
        # An answer counts until it was written down that none came.
        ("approved", ASKED + timedelta(hours=99), "promote"),
    ],
)
def test_the_tag_and_the_deadline_say_what_is_due(approval: str, at: datetime, act: str) -> None:
    """MLflow does not say when a tag was set."""
    found = due(approval, at=at)
    assert found is not None and (found.act, found.version) == (act, 4)


@pytest.mark.parametrize("kind", ["promoted", "rejected", "expired"])
def test_what_is_written_down_is_not_due_again(kind: str) -> None:
    """A tag that comes after the deadline was written down changes nothing."""
    assert due("approved", line(), line(kind)) is None


def test_a_challenger_that_nobody_was_asked_about_has_nothing_due() -> None:
    """A tag on a version that the gate refused, and the question about another version."""
    assert due("approved", line("rejected")) is None
    assert due("approved", line(version=2)) is None


def test_a_decision_against_another_champion_expires() -> None:
    """An approval of it would promote what was never compared with the champion of today."""
    found = due("approved", champion="another")
    assert found is not None and found.act == "expire" and "another one" in found.reason


def test_a_question_that_is_open_holds_the_next_training_back() -> None:
    """One that has come to its end does not."""
    waits, answered = due("pending"), due("approved")
    assert waits is not None and answered is not None
    (open_one,) = judge_waiting((answered, waits))
    assert open_one.holds_back and "2026-11-29T03:00:00+00:00" in open_one.reason
    assert not any(each.holds_back for each in judge_waiting((answered,)))
    assert judge_waiting(()) == ()


def test_a_champion_that_was_made_by_hand_is_answered_already() -> None:
    """A person set the alias on the version that waits: nothing about it expires."""
    version = NamedVersion(version=4, digest="new", approval="pending")
    found = standing("pending", (line(),), "old").model_copy(update={"champion": version})
    assert judge_due(found, (line(),), 72, LATER) == ()


def test_a_person_sees_reasons_and_comparisons() -> None:
    """As Markdown, in percentage points where the figure is a rate: 0.125 are 12.5 points."""
    found = {"p_value": 0.01, "n": 80, "verdict": "better"}
    rate = {"metric": "accuracy", "difference": 0.125, "low": 0.0625, "high": 0.1875} | found
    unscored = {"metric": "perplexity", "difference": None, "low": None, "high": None} | found
    decision = GateDecision(
        digest="d",
        promote=True,
        reasons=("a gain",),
        comparisons=(
            Comparison(against="champion", **rate),
            Comparison(against="base", **unscored | {"verdict": "undecided"}),
        ),
        guards=(GuardFinding(against="champion", margin=0.05, holds=True, **rate),),
        slices=(
            SliceFinding(
                against="champion", by="group", part="a|b", rows=80, refuses=False, **rate
            ),
        ),
        notes=("few rows",),
        metric="accuracy",
        alpha=0.005,
    )

    lines = say_decision("m", 4, decision, 72).splitlines()

    assert lines[0] == "### m version 4 could become champion"
    assert "**Accuracy** decides, with intervals of 99.5 %." in lines
    by = "+12.5 points<br>[+6.2, +18.8] | 80 |"
    at = lines.index("| against the champion | is | by | rows |")
    assert lines[at + 2 : at + 5] == [
        f"| Accuracy | better | {by}",
        f"| guard: Accuracy, margin 5.0 points | held | {by}",
        f"| group a\\|b | better | {by}",
    ]
    at = lines.index("| against the base | is | by | rows |")
    assert lines[at + 2] == "| Perplexity | undecided | not compared | 80 |"
    assert "few rows" in lines
    assert lines[-1] == "Without an answer in 72 hours the champion stays."
