"""What models were asked, as a judge is shown it: the question, and all that stands around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retune.data.chats.messages import SYSTEM_ROLES, USER_WITH_CONTEXT
from retune.data.tables import RowTaker, read_table

_COLUMNS = ("history", "question", "context", "steps")


def read_asked(index: Path, sources: Sequence[Path], system: str | None) -> dict[str, str]:
    """Read what each held-out row asks.

    Args:
        index: `test.parquet` of the rows by side.
        sources: `rows.parquet` of each source, by the number that the index gives it.
        system: The recipe's system message; a row's own wins over it.

    Returns:
        By row: the question with the text beside it, and the turns before and after it, without
        any mark of a chat template.
    """
    table = read_table(index, ["source", "row", "row_id"])
    source, row, ids = (table[name].to_numpy() for name in ("source", "row", "row_id"))
    found: dict[str, str] = {}
    for number in np.unique(source):
        here = np.flatnonzero(source == number)
        taken = RowTaker(sources[number], _COLUMNS).take(row[here])
        found |= {
            str(name): write_asked(each, system)
            for name, each in zip(ids[here], taken.to_pylist(), strict=True)
        }
    return found


def write_asked(row: Mapping[str, Any], system: str | None) -> str:
    """Write what a row asks.

    Args:
        row: With `history`, `question`, `context` and `steps`, as `ROW_SCHEMA` has them.
        system: The recipe's system message.

    Returns:
        The question alone where nothing is before or after it; else a line of its own for who says
        each turn.
    """
    question, context = row["question"], row["context"]
    asked = USER_WITH_CONTEXT.format(question=question, context=context) if context else question
    before, after = row["history"] or [], row["steps"] or []
    if system and not any(turn["role"] in SYSTEM_ROLES for turn in before):
        before = [{"role": "system", "content": system}, *before]
    if not before and not after:
        return str(asked)
    turns = [*before, {"role": "user", "content": asked}, *after]
    return "\n\n".join(f"[{turn['role']}]\n{_say(turn)}" for turn in turns)


def _say(turn: Mapping[str, Any]) -> str:
    said = (turn["content"], turn.get("calls"))
    return "\n".join(str(each) for each in said if each)
