"""A person's answer on a challenger that the gate would promote: asked, found, and acted on."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.input import RunInput
from prefect.runtime import deployment, flow_run
from prefect.states import Completed

from retune.errors import ServiceError
from retune.records import Record
from retune.registry.aliases.deciding import name_person, promote_version
from retune.registry.aliases.refusing import refuse_version
from retune.registry.ledger.facts import list_questions
from retune.registry.versions.outcome_tags import tag_run
from retune.retraining.approving import Due, say_decision
from retune.retraining.clock import HOUR, as_utc, write_moment
from retune.retraining.findings import Assessment
from retune.retraining.summary import Outcome, RetrainSummary
from retune.retraining.telling import ACTOR
from tasks.overview import report_change
from tasks.retrain.announcing import announce
from tasks.retrain.looking import Look, ledger_folder, look_around
from tasks.retrain.outcomes import FLOW_RUN, link_flow_run, name_state, summarize

TAGGED = "tag retune.approval"
"""Actor of an answer by a tag: MLflow does not say who set it."""

Act = Literal["promote", "reject", "expire"]


class Answer(RunInput):
    """Whether the challenger becomes champion."""

    approve: bool = False
    """True makes it champion; false keeps the champion that there is."""
    name: str = ""
    """Who answers; stands in the ledger."""
    reason: str = ""
    """Why; stands in the ledger."""


class Question(Record):
    """What this flow run asks a person."""

    version: int
    """The challenger."""
    text: str
    """Markdown."""
    seconds: int
    """How long an answer is waited for."""

    @property
    def key(self) -> str:
        """Name of the question in this flow run: asked again, it is found answered."""
        return f"approval-{self.version}"


def settle_approval(look: Look) -> Look:
    """Act on what was answered since the last start, or on a deadline that has passed.

    Args:
        look: The model as it stands.

    Returns:
        The model as it stands afterwards.

    Raises:
        RetuneError: MLflow does not answer, or the ledger does not hold.
    """
    for _ in look.dues:
        # Looked for anew each time: what one answer did may have settled another question.
        due = next((each for each in look.dues if each.act != "wait"), None)
        if due is None:
            break
        look = _settle(look, due)
    return look


def _settle(look: Look, due: Due) -> Look:
    assert due.act != "wait"
    asked = next(each for each in list_questions(look.entries) if each.version == due.version)
    actor = ACTOR if due.act == "expire" else TAGGED
    outcome = _take_effect(look, due.version, due.act, actor, due.reason)
    announce(
        "promoted" if outcome == "promoted" else "rejected",
        look.model_name,
        reason=due.reason,
        recipe=look.run.recipe.name,
        figures={"version": float(due.version)},
        details={"outcome": outcome, "actor": actor, "at": write_moment(look.at)},
    )
    _end_waiting(look, asked.links.get(FLOW_RUN, ""), outcome, due.reason)
    return look_around(look.run, at=look.at, force=look.force)


def find_asked(look: Look) -> Question | None:
    """Return the question that this very flow run asked before it was suspended, if any.

    Args:
        look: The model as it stands.
    """
    questions = list_questions(look.entries)
    own = (each for each in questions if each.links.get(FLOW_RUN) == str(flow_run.id))
    asked = next(own, None)
    if asked is None or asked.version is None:
        return None
    # A run of a terminal is not suspended, and so never comes here again.
    return _question(look, asked.version, asked.reason) if deployment.id else None


def ask(look: Look, found: RetrainSummary) -> Question | None:
    """Put a challenger that the gate would promote before a person, where Prefect can wait.

    Args:
        look: The model as it stood before.
        found: What came of the start.

    Returns:
        The question; None where nobody has to be asked, or where this run has no deployment that
        could start it again: the tag is waited for, by the next start.
    """
    if found.outcome != "awaiting_approval" or found.run is None or deployment.id is None:
        return None
    version, hours = found.run.registered.version, look.run.recipe.registry.approval_hours
    text = say_decision(look.model_name, version, found.run.decision, hours)
    return _question(look, version, text)


def act_on(
    look: Look, question: Question, answer: Answer, at: datetime | None = None
) -> RetrainSummary:
    """Let a person's answer take effect.

    Args:
        look: The model as it stands.
        question: What was asked.
        answer: What was answered.
        at: The time that it is taken to be; None for now.

    Returns:
        The summary of this start.

    Raises:
        RetuneError: The champion is another one by now, or MLflow does not answer.
    """
    # A run that was suspended keeps the start that was planned for it; an answer may be days later.
    look = replace(look, at=as_utc(at or datetime.now(UTC)))
    told = f": {answer.reason}" if answer.reason else ""
    actor = answer.name or name_person()
    act: Act = "promote" if answer.approve else "reject"
    reason = f"{actor} {'approved' if answer.approve else 'rejected'} it{told}"
    outcome = _take_effect(look, question.version, act, actor, reason)
    after = look_around(look.run, at=look.at, force=look.force)
    return summarize(after, Assessment(triggers=()), outcome, reason)


def _take_effect(look: Look, version: int, act: Act, actor: str, reason: str) -> Outcome:
    if act == "promote":
        promote_version(
            look.uri,
            look.model_name,
            version,
            folder=ledger_folder(look.run),
            actor=actor,
            reason=reason,
            approved=True,
            at=write_moment(look.at),
        )
        _show(look, version, "promoted", reason)
        return "promoted"
    kind: Literal["rejected", "expired"] = "rejected" if act == "reject" else "expired"
    refuse_version(
        look.uri,
        look.model_name,
        version,
        folder=ledger_folder(look.run),
        kind=kind,
        actor=actor,
        reason=reason,
        at=write_moment(look.at),
        links=link_flow_run(),
    )
    _show(look, version, kind, reason)
    return kind


def _show(look: Look, version: int, outcome: Outcome, reason: str) -> None:
    """Say in MLflow and on the model's page what became of the version, whose run has ended."""
    tags = {"retune.outcome": outcome, "retune.outcome_reason": reason}
    tags["retune.promoted"] = str(outcome == "promoted").lower()
    try:
        tag_run(look.uri, look.model_name, version, tags)
    except ServiceError as error:
        # The answer has taken effect: what shows it may not undo that.
        look.run.watcher.note(f"the run of version {version} is not tagged: {error.message}")
    report_change(look.uri, look.model_name, look.run.store.root, version, look.run.watcher.note)


def _question(look: Look, version: int, text: str) -> Question:
    seconds = math.ceil(look.run.recipe.registry.approval_hours * HOUR.total_seconds())
    return Question(version=version, text=text, seconds=seconds)


def _end_waiting(look: Look, waiting: str, outcome: Outcome, reason: str) -> None:
    """End the flow run that was suspended for an answer which came another way."""
    if not waiting or waiting == str(flow_run.id):
        return
    state: State[None] = Completed(name=name_state(outcome), message=reason)
    try:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(waiting), state, force=True)
    except (PrefectException, HTTPError) as error:
        # What was answered has taken effect; that run's deadline ends it.
        look.run.watcher.note(f"flow run {waiting} waits on until its deadline: {error}")
