"""How a start of the flow `retrain` ends: a line of the ledger, an event, tags, a named state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from retune.errors import RetuneError
from retune.registry.aliases.standing import describe_standing
from retune.release.summary import RunSummary
from retune.retraining.clock import write_moment
from retune.retraining.findings import Assessment
from retune.retraining.summary import Outcome, RetrainSummary, judge_outcome, list_gains
from retune.retraining.telling import list_answers, make_entry, repeats_last
from tasks.retrain.announcing import EventName, announce
from tasks.retrain.looking import Look, ledger_folder, open_ledger
from tasks.runs.run import RecipeRun, ended_as

FLOW_RUN = "prefect_flow_run"
"""Link of a ledger's line to Prefect's flow run."""

_EVENTS: dict[Outcome, EventName] = {
    "promoted": "promoted",
    "rejected": "rejected",
    "expired": "rejected",
    "unchanged": "skipped",
    "skipped": "skipped",
}
"""A challenger that waits for a person has come to no end yet."""


def skip(look: Look, assessment: Assessment) -> State[RetrainSummary]:
    """End a start that is not worth a training: nothing was computed, and it is told why.

    Args:
        look: What it rests on.
        assessment: What triggers and bounds said.

    Returns:
        Prefect's state, named ``Skipped``.

    Raises:
        RetuneError: The ledger cannot be written.
    """
    note_skip(look, assessment, assessment.reason)
    return end_as(look, summarize(look, assessment, "skipped", assessment.reason))


def note_skip(look: Look, assessment: Assessment, reason: str) -> None:
    """Write that nothing was decided, unless the last line says so for the same causes.

    Args:
        look: What it rests on.
        assessment: What triggers and bounds said.
        reason: Why.
    """
    champion = look.standing.champion
    entry = make_entry(
        "skipped",
        look.model_name,
        reason,
        look.at,
        champion=champion.version if champion else None,
        figures=list_answers(assessment),
        links=link_flow_run(),
    )
    if not repeats_last(entry, look.entries):
        open_ledger(look.run).append(entry)


def conclude(
    look: Look, assessment: Assessment, run: RecipeRun, summary: RunSummary
) -> RetrainSummary:
    """Say what the decision on a challenger did to the model.

    Args:
        look: The model as it stood before.
        assessment: Why it was trained.
        run: The run that trained it, still open.
        summary: What that run found.

    Returns:
        The summary.

    Raises:
        RetuneError: MLflow does not answer, or the ledger cannot be written.
    """
    after = describe_standing(look.uri, look.model_name, ledger_folder(look.run))
    outcome, reason = judge_outcome(look.standing, after, summary)
    if outcome == "unchanged":
        note_skip(look, assessment, reason)
    if run.mirror is not None:
        tags = {"retune.outcome": outcome, "retune.outcome_reason": reason}
        run.mirror.tags(run.parent_run, tags | {"retune.worth_it": assessment.reason})
    told = summarize(look, assessment, outcome, reason, summary)
    return told.model_copy(update={"champion": after.champion and after.champion.version})


def end_as(look: Look, summary: RetrainSummary) -> State[RetrainSummary]:
    """Tell the outcome as an event, and return the state that shows it.

    Args:
        look: What it rests on.
        summary: What came of it.
    """
    if summary.outcome in _EVENTS:
        announce(
            _EVENTS[summary.outcome],
            look.model_name,
            reason=summary.reason,
            recipe=look.run.recipe.name,
            figures=list_gains(summary.run) if summary.run else list_answers(summary.assessment),
            details={"outcome": summary.outcome, "champion": summary.champion, "at": summary.at},
        )
    return Completed(name=name_state(summary.outcome), message=summary.reason, data=summary)


def name_state(outcome: Outcome) -> str:
    """Return the name of Prefect's state for an outcome, such as ``AwaitingApproval``."""
    return outcome.title().replace("_", "")


@contextmanager
def telling_failure(look: Look) -> Iterator[None]:
    """Write a line and emit an event where the training of a challenger fails; the champion stays.

    Args:
        look: The model as it stood before.

    Raises:
        BaseException: What failed, as it was.
    """
    try:
        yield
    except BaseException as error:
        known = isinstance(error, RetuneError)
        told = str(error) if known else f"{type(error).__name__}: {error}"
        _note_failure(look, f"stopped: {told}" if ended_as(error) == "KILLED" else told)
        raise


def _note_failure(look: Look, reason: str) -> None:
    try:
        # What failed may have come after the decision: the champion need not be that of before.
        champion = describe_standing(look.uri, look.model_name, ledger_folder(look.run)).champion
        entry = make_entry(
            "failed",
            look.model_name,
            reason,
            look.at,
            champion=champion.version if champion else None,
            links=link_flow_run(),
        )
        open_ledger(look.run).append(entry)
    except RetuneError as error:
        # What failed first is what has to be told; a ledger that is away may be a part of it.
        look.run.watcher.note(f"the failure is not in the ledger: {error.message}")
    announce("failed", look.model_name, reason=reason, recipe=look.run.recipe.name)


def link_flow_run() -> dict[str, str]:
    """Return the ledger's link to the flow run; empty outside of one."""
    return {FLOW_RUN: str(flow_run.id)} if flow_run.id else {}


def summarize(
    look: Look,
    assessment: Assessment,
    outcome: Outcome,
    reason: str,
    run: RunSummary | None = None,
) -> RetrainSummary:
    """Return the summary of a start.

    Args:
        look: What it rests on.
        assessment: What triggers and bounds said.
        outcome: What came of it.
        reason: Why.
        run: What was found where a challenger was trained.
    """
    champion = look.standing.champion
    return RetrainSummary(
        recipe=look.run.recipe.name,
        model_name=look.model_name,
        at=write_moment(look.at),
        outcome=outcome,
        reason=reason,
        assessment=assessment,
        champion=champion.version if champion else None,
        run=run,
    )
