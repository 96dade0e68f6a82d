"""What rows keep beside question and answer: system message, earlier turns, thoughts, tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retune.data.formats.cells import Cells, Row, as_list, as_text, ascii_of, is_blank, kind_of
from retune.data.formats.dialogue import as_row, join_before, read_turns
from retune.data.formats.names import fold_name
from retune.data.formats.tool_calls import read_tools
from retune.data.formats.turn import ROLES, Turn, names_a_role
from retune.errors import DataError


@dataclass(frozen=True)
class Beside:
    """What stands beside question and answer.

    Attributes:
        before: System message and earlier turns.
        thinking: What the answer is preceded by.
        tools: Tools that may be called, as JSON.
    """

    before: tuple[Turn, ...] = ()
    thinking: str | None = None
    tools: str | None = None

    def fields(self) -> dict[str, Any]:
        """Return it as fields of a row whose question and answer are two texts."""
        told = [as_row(turn, place) for place, turn in enumerate(self.before, start=1)]
        return {"history": told, "thinking": self.thinking, "tools": self.tools}


def read_beside(row: Row, cells: Cells) -> Beside:
    """Read what a row keeps beside question and answer.

    Args:
        row: The row.
        cells: Its keys.

    Returns:
        What there is.

    Raises:
        DataError: It is not what its key says, or several keys differ.
    """
    system = cells.value_or_none(row, "system")
    history = cells.value_or_none(row, "history")
    thinking = cells.value_or_none(row, "thinking")
    tools = cells.value_or_none(row, "tools")
    before = [Turn("system", as_text(*system))] if system else []
    return Beside(
        before=tuple(join_before(before, _earlier(*history, cells.ignore) if history else ())),
        thinking=as_text(*thinking) if thinking else None,
        tools=read_tools(*tools) if tools else None,
    )


def _earlier(key: str, value: Any, ignore: frozenset[str]) -> list[Turn]:
    listed = as_list(value)
    if not isinstance(listed, list):
        raise DataError(
            f"{ascii_of(key)} is {kind_of(listed)}: expected earlier turns, as a list of "
            "[question, answer] pairs or of turns; put its text into the question, or write "
            f"data.ignore: [{ascii_of(key)[1:-1]}] to pass over it"
        )
    turns: list[Any] = []
    for place, entry in enumerate(listed, start=1):
        turns += [entry] if names_a_role(entry) else _pair(key, entry, place)
    told = read_turns(turns, ignore)
    late = next((turn for turn in told[1:] if turn.role == "system"), None)
    if late is not None:
        raise DataError(f"{ascii_of(key)} has a system message that is not its first turn")
    if told and (told[-1].calls or told[-1].role == "tool"):
        raise DataError(f"{ascii_of(key)} breaks off within a call of a tool")
    return told


def _pair(key: str, entry: Any, place: int) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    if isinstance(entry, list) and len(entry) == len(roles):
        # A first question of null is how some keep a greeting that comes of itself.
        return [
            {"role": role, "content": said}
            for role, said in zip(roles, entry, strict=True)
            if not (role == "user" and is_blank(said))
        ]
    if isinstance(entry, Mapping) and len(entry) == len(roles):
        named = {ROLES.get(fold_name(name[:40])): said for name, said in entry.items()}
        if set(named) == set(roles):
            return [{"role": role, "content": named[role]} for role in roles]
    found = kind_of(entry) if not isinstance(entry, list) else f"a list of {len(entry)}"
    raise DataError(
        f"entry {place} of {ascii_of(key)} is {found}: expected [question, answer], or a turn "
        "with 'role' and 'content'"
    )
