"""Turns that follow one another: their order, one system message, tools that answer calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retune.data.formats.cells import ascii_of
from retune.data.formats.tool_calls import Call, write_calls
from retune.data.formats.turn import Turn, read_turn
from retune.errors import DataError


def read_turns(turns: Sequence[Any], ignore: frozenset[str] = frozenset()) -> list[Turn]:
    """Read the turns of a conversation.

    Args:
        turns: Objects as the row has them.
        ignore: Keys with a meaning that are passed over.

    Returns:
        The turns in the one spelling: calls that follow one another, or the words before them, are
        one turn, as is meant by them, and an empty system message is none.

    Raises:
        DataError: One is no turn, or calls and answers of tools do not fit together.
    """
    told: list[Turn] = []
    for number, value in enumerate(turns, start=1):
        turn = read_turn(value, number, ignore)
        if turn.role in ("system", "developer") and not turn.content:
            continue
        last = told[-1] if told else None
        if turn.calls and not turn.content and last is not None and last.role == "assistant":
            told[-1] = _joined(last, turn, number)
        else:
            told.append(turn)
    _refuse_speakers(told)
    return _with_tool_names(told)


def join_before(before: Sequence[Turn], turns: Sequence[Turn]) -> list[Turn]:
    """Put what a row keeps beside its turns before them.

    Args:
        before: System message and earlier turns.
        turns: The turns.

    Returns:
        All of them, with one system message.

    Raises:
        DataError: Both have a system message, and another one.
    """
    own = next((turn for turn in turns if turn.role == "system"), None)
    beside = next((turn for turn in before if turn.role == "system"), None)
    if own is None or beside is None:
        # A system message comes first, also before a history beside the turns.
        first = [turn for turn in turns[:1] if turn.role in ("system", "developer")]
        return [*first, *before, *turns[len(first) :]]
    if own.content.strip() != beside.content.strip():
        raise DataError(
            "the turns have a system message, and another one stands beside them: keep one, or "
            "pass over the column by data.ignore"
        )
    rest = [turn for turn in before if turn is not beside]
    return [beside, *rest, *(turn for turn in turns if turn is not own)]


def as_row(turn: Turn, number: int) -> dict[str, Any]:
    """Return a turn as rows keep it; without what it does not have."""
    beside = {
        "thinking": turn.thinking,
        "calls": write_calls(list(turn.calls), number),
        "name": turn.name if turn.role == "tool" else None,
        "learned": None if turn.learned else False,
    }
    found = {key: value for key, value in beside.items() if value is not None}
    return {"role": turn.role, "content": turn.content, **found}


def _joined(last: Turn, turn: Turn, number: int) -> Turn:
    if last.learned != turn.learned:
        raise DataError(f"turn {number} goes on with a call, but only one of both carries loss")
    thoughts = [each for each in (last.thinking, turn.thinking) if each]
    thinking = "\n".join(thoughts) or None
    return Turn(
        "assistant", last.content, thinking, (*last.calls, *turn.calls), learned=turn.learned
    )


def _refuse_speakers(told: Sequence[Turn]) -> None:
    for role in ("user", "assistant"):
        names = {turn.name for turn in told if turn.role == role and turn.name}
        if len(names) > 1:
            listed = ", ".join(sorted(map(ascii_of, names))[:3])
            raise DataError(
                f"turns of {role!r} have different names ({listed:.60}), which no prompt shows: "
                "put the names into their contents, or pass over them by data.ignore: [name]"
            )


def _with_tool_names(told: Sequence[Turn]) -> list[Turn]:
    """See that every call is answered and every answer called for; name the tools that answer."""
    waiting: list[Call] = []
    answered = 0
    ids: set[str | None] = set()
    named: list[Turn] = []
    for place, turn in enumerate(told, start=1):
        if turn.role == "tool":
            if turn.answers is not None and turn.answers in ids:
                raise DataError(
                    f"turn {place} answers the call {ascii_of(turn.answers):.60} a second time"
                )
            named.append(_answer(turn, place, waiting, answered))
            answered, ids = answered + 1, ids | {turn.answers}
            continue
        _refuse_unanswered(waiting, answered, place)
        waiting, answered, ids = list(turn.calls), 0, set()
        named.append(turn)
    return named


def _answer(turn: Turn, place: int, waiting: list[Call], answered: int) -> Turn:
    if not waiting:
        raise DataError(
            f"turn {place} is the answer of a tool, but none was called (read are "
            "tool_calls, function_call and <tool_call> at the end of a text)"
        )
    if turn.answers is None or all(call.id is None for call in waiting):
        if answered >= len(waiting):
            raise DataError(
                f"turn {place} is the answer of a tool too many: {answered} were called"
            )
        name = turn.name or waiting[answered].name
    else:
        found = [call for call in waiting if call.id == turn.answers]
        if not found:
            raise DataError(
                f"turn {place} answers the call {ascii_of(turn.answers):.60}, which was not made"
            )
        name = turn.name or found[0].name
    return Turn("tool", turn.content, name=name, answers=turn.answers, learned=turn.learned)


def _refuse_unanswered(waiting: list[Call], answered: int, place: int) -> None:
    # One answer may stand for several calls where they bear no ids.
    with_ids = any(call.id is not None for call in waiting)
    expected = len(waiting) if with_ids else min(1, len(waiting))
    if answered < expected:
        raise DataError(
            f"turn {place} follows a call of {ascii_of(waiting[answered].name):.60} that no tool "
            "answers: expected a turn of the role 'tool'"
        )
